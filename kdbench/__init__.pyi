from kdbench.facade.embedding import embed as embed
from kdbench.facade.networks import Network as Network
from kdbench.facade.scoring import Scores as Scores
from kdbench.facade.scoring import score as score
from kdbench.facade.suites import LoadedSuite as LoadedSuite
from kdbench.facade.suites import Results as Results
from kdbench.facade.suites import load_suite as load_suite

__version__: str

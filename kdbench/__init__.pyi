from kdbench.session.suites import LoadedSuite as LoadedSuite
from kdbench.session.suites import Results as Results
from kdbench.session.suites import load_suite as load_suite
from kdbench.standalone.embed import embed as embed
from kdbench.standalone.networks import Network as Network
from kdbench.standalone.score import Scores as Scores
from kdbench.standalone.score import score as score

__version__: str

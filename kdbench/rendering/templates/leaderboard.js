const table = document.getElementById('all'), body = table.tBodies[0];
const rows = Array.from(body.rows), heads = Array.from(table.tHead.rows[0].cells);
const selects = Array.from(document.querySelectorAll('#filters select'));
const value = (row, i) => row.cells[i].textContent;
function filter() {
  let shown = 0;
  for (const row of rows) {
    row.hidden = selects.some(s => s.value && value(row, +s.dataset.column) !== s.value);
    shown += !row.hidden;
  }
  document.getElementById('count').textContent = shown + ' of ' + rows.length + ' rows';
  history.replaceState(null, '', '#' + selects.map(s => encodeURIComponent(s.value)).join('&'));
}
function compare(a, b) {
  if (a === b) return 0;
  if (a === '') return 1;
  if (b === '') return -1;
  const x = Number(a), y = Number(b);
  return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
}
heads.forEach((head, i) => head.firstChild.addEventListener('click', () => {
  const up = head.getAttribute('aria-sort') !== 'ascending';
  heads.forEach(h => h.setAttribute('aria-sort', 'none'));
  head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
  rows.sort((a, b) => {
    const x = value(a, i), y = value(b, i);
    return x === '' || y === '' ? compare(x, y) : (up ? 1 : -1) * compare(x, y);
  });
  body.append(...rows);
}));
const wanted = location.hash.slice(1).split('&').map(decodeURIComponent);
selects.forEach((s, i) => {
  if (Array.from(s.options).some(o => o.value === wanted[i])) s.value = wanted[i];
  s.addEventListener('change', filter);
});
filter();

// The list of streams, kept up to date. The page has the list as it was when it was asked for, so this is only news.

const EVERY_MS = 3000;
const table = document.getElementById('streams');
const none = document.getElementById('none');

function cell(content) {
  const cell = document.createElement('td');
  cell.append(content);
  return cell;
}

function place(stream) {
  if (stream.is_local) return 'this node';
  if (stream.distance_ms === null) return 'cannot be reached now';
  return `${stream.distance_ms.toFixed(1)} ms away`;
}

function row(stream) {
  const link = document.createElement('a');
  link.href = stream.page;
  link.textContent = stream.name;
  const row = document.createElement('tr');
  row.append(cell(link), cell(stream.tracks.join(', ')), cell(place(stream)));
  return row;
}

function show(list) {
  const rows = list.streams.map(row);
  if (list.more > 0) {
    const more = cell(`and ${list.more} more, not listed`);
    more.colSpan = 3;
    const last = document.createElement('tr');
    last.append(more);
    rows.push(last);
  }
  none.hidden = rows.length > 0;
  // Whoever is on a link with the keyboard stays there.
  const focused = document.activeElement?.getAttribute('href');
  table.replaceChildren(...rows);
  if (focused) table.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
}

// Whoever came with a token asks with it, and gets links that have it.
const news = new URL('/live/?json', location.href);
const token = new URLSearchParams(location.search).get('token');
if (token !== null) news.searchParams.set('token', token);

let shown = '';
async function look() {
  try {
    const response = await fetch(news, { cache: 'no-store' });
    if (!response.ok) return;
    const text = await response.text();
    if (text !== shown) show(JSON.parse(text));
    shown = text;
  } catch {
    // The node is away for a moment: what was known stays.
  }
}

await look();
setInterval(look, EVERY_MS);

// Where the nodes of a map lie: springs along links, and all nodes keep apart.
//
// The same nodes and links lie the same way each time; nodes that were there before move little. Not how it is drawn.

export interface Point {
  x: number;
  y: number;
}

/** Places in a box of that size; `before` is where nodes were. */
export function settle(
  nodes: string[],
  links: [string, string][],
  before: ReadonlyMap<string, Point>,
  width: number,
  height: number,
): Map<string, Point> {
  const margin = { x: 60, y: 46 };
  const at = new Map<string, Point>();
  nodes.forEach((node, index) => {
    const angle = (2 * Math.PI * index) / nodes.length - Math.PI / 2;
    const start = { x: width / 2 + Math.cos(angle) * width * 0.36, y: height / 2 + Math.sin(angle) * height * 0.36 };
    at.set(node, { ...(before.get(node) ?? start) });
  });
  const points = [...at.values()];
  const known = nodes.filter((node) => before.has(node)).length;
  const isNew = known < nodes.length || nodes.length === 0;
  const rounds = isNew ? Math.round(30000 / Math.max(nodes.length, 75)) : 0;
  const wanted = 0.75 * Math.sqrt((width * height) / Math.max(nodes.length, 1));
  const ends = links.map(([a, b]) => [at.get(a)!, at.get(b)!] as const);
  let step = known > 0 ? width / 40 : width / 10;
  for (let round = 0; round < rounds; round += 1) {
    const moves = new Map<Point, Point>(points.map((point) => [point, { x: 0, y: 0 }]));
    const push = (a: Point, b: Point, force: (distance: number) => number) => {
      const [dx, dy] = [a.x - b.x || 0.01, a.y - b.y || 0.01];
      const distance = Math.hypot(dx, dy);
      const by = force(distance) / distance;
      const [ma, mb] = [moves.get(a)!, moves.get(b)!];
      ma.x += dx * by;
      ma.y += dy * by;
      mb.x -= dx * by;
      mb.y -= dy * by;
    };
    points.forEach((a, index) => {
      for (const b of points.slice(index + 1)) push(a, b, (distance) => (wanted * wanted) / distance);
    });
    for (const [a, b] of ends) push(a, b, (distance) => (-distance * distance) / wanted);
    for (const [point, move] of moves) {
      const length = Math.hypot(move.x, move.y) || 1;
      const by = Math.min(length, step) / length;
      point.x = Math.min(width - margin.x, Math.max(margin.x, point.x + move.x * by));
      point.y = Math.min(height - margin.y, Math.max(margin.y, point.y + move.y * by));
    }
    step = Math.max(0.5, step * 0.985);
  }
  return at;
}

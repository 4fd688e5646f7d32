// What the node says: the rows of its API, kept up to date by server-sent events.
//
// Not how it is shown. Invariant: a table here is what the node's table was at the version it told last.

export interface About {
  id: string;
  name: string;
  listen: string;
  state_dir: string;
  is_relay: boolean;
  is_client: boolean;
  uptime_seconds: number;
  levada: string;
}

export interface Link {
  link: number | null;
  peer: string | null;
  name: string;
  remote: string;
  state: string;
  cause: string | null;
  rtt_seconds: number | null;
  loss_in_ratio: number | null;
  loss_out_ratio: number | null;
  is_relay: boolean;
  is_congested: boolean;
  admitted_bps: number;
}

export interface Track {
  kind: string;
  codec: string;
}

export interface Stream {
  name: string;
  origin: string;
  instance: string;
  flow: string;
  state: string;
  distance_seconds: number | null;
  is_local: boolean;
  peak_bps: number;
  tracks: Track[];
  subscriptions: number;
  children: number;
}

export interface Flow {
  flow: string;
  name: string;
  state: string;
  upstream: number | null;
  egresses: number[];
  subscriptions: number;
  cause: string | null;
  packets_in: number;
  bytes_in: number;
  packets_out: number;
  bytes_out: number;
}

export interface Node {
  id: string;
  name: string;
  role: string;
  address: string | null;
  distance_seconds: number | null;
  is_relay: boolean | null;
  streams: number;
}

export interface Counter {
  name: string;
  reason: string | null;
  value: number;
  unit: string;
  kind: string;
  help: string;
}

export interface Session {
  id: number;
  role: string;
  stream: string;
  protocol: string;
  transport: string;
  user: string | null;
  remote: string;
  agent: string;
  since_unix_ms: number;
  bytes: number;
  skips: number;
  ended: string | null;
}

export interface MapLink {
  peer: string;
  name: string;
  rtt_seconds: number | null;
  loss_in_ratio: number;
  loss_out_ratio: number;
}

export interface MapFlow {
  flow: string;
  name: string;
  origin: string;
  upstream: string | null;
  subscriptions: number;
  bytes_in: number;
  repaired: number;
}

export interface MapNode {
  id: string;
  name: string;
  hops: number;
  is_relay: boolean;
  is_hub: boolean;
  uptime_seconds: number;
  cause: string | null;
  links: MapLink[];
  flows: MapFlow[];
}

export interface Happened {
  id: number;
  at_unix_ms: number;
  kind: string;
  text: string;
  peer: string | null;
  stream: string | null;
}

export interface Sample {
  at_unix_ms: number;
  received_bps: number;
  sent_bps: number;
  dropped_pps: number;
  loss_ratio: number;
  cpu_ratio: number;
}

/** What tells a row from the others of its table: as the node does, so that removed rows are found. */
const KEYS: Record<string, string[]> = {
  streams: ["name", "origin", "instance"],
  nodes: ["id", "address"],
  links: ["link", "remote"],
  flows: ["flow"],
  counters: ["name", "reason"],
  sessions: ["id"],
  map: ["id"],
};

export type Tables = {
  streams: Stream[];
  nodes: Node[];
  links: Link[];
  flows: Flow[];
  counters: Counter[];
  sessions: Session[];
  map: MapNode[];
};

type Row = Record<string, unknown>;

function keyOf(table: string, row: Row): string {
  return KEYS[table]!.map((field) => String(row[field] ?? "")).join(" ");
}

/** Follows tables until `close` is called; `changed` gets each table that changed, `connected` whether the node answers. */
export function watch(
  changed: <T extends keyof Tables>(table: T, rows: Tables[T]) => void,
  connected: (yes: boolean) => void,
): () => void {
  const tables = new Map<string, Map<string, Row>>();
  const source = new EventSource(`/api/v1/watch?tables=${Object.keys(KEYS).join(",")}`);
  const tell = (table: string) => {
    const rows = [...tables.get(table)!.values()];
    changed(table as keyof Tables, rows as never);
  };
  source.addEventListener("snapshot", (event) => {
    const { table, rows } = JSON.parse(event.data) as { table: string; rows: Row[] };
    tables.set(table, new Map(rows.map((row) => [keyOf(table, row), row])));
    tell(table);
  });
  source.addEventListener("delta", (event) => {
    const delta = JSON.parse(event.data) as { table: string; changed: Row[]; removed: string[] };
    const rows = tables.get(delta.table);
    if (!rows) return;
    for (const key of delta.removed) rows.delete(key);
    for (const row of delta.changed) rows.set(keyOf(delta.table, row), row);
    tell(delta.table);
  });
  source.onopen = () => connected(true);
  source.onerror = () => connected(false);
  return () => source.close();
}

/** Follows events: those that are remembered first. */
export function follow(happened: (events: Happened[], isAnew: boolean) => void): () => void {
  const readAll = async () => {
    const body = await get<{ events: Happened[] }>("/api/v1/events");
    if (body) happened(body.events, true);
  };
  void readAll();
  const source = new EventSource("/api/v1/events");
  // Also when the connection is back: what came in between is there too.
  source.onopen = readAll;
  source.addEventListener("missed", readAll);
  source.addEventListener("event", (event) => happened([JSON.parse(event.data)], false));
  return () => source.close();
}

export async function get<T>(path: string): Promise<T | null> {
  try {
    const answer = await fetch(path);
    return answer.ok ? ((await answer.json()) as T) : null;
  } catch {
    return null;
  }
}

/** Does something; gives what was wrong, in the node's words, or nothing. */
export async function act(method: string, path: string, body?: object): Promise<string | null> {
  try {
    const headers = { "content-type": "application/json" };
    const answer = await fetch(path, body ? { method, headers, body: JSON.stringify(body) } : { method });
    if (answer.ok) return null;
    const problem = (await answer.json()) as { detail?: string };
    return problem.detail ?? answer.statusText;
  } catch {
    return "the node does not answer";
  }
}

// Writes into `dist` what it was built from, so that `cargo xtask tidy` sees without Node.js whether it is up to date.
//
// FNV-1a of 64 bits over the names and bytes of all sources, in the order of their names; xtask/src/tidy/web.rs does
// the same. It guards against forgetting, not against malice.
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";

const ROOTS = ["digest.ts", "index.html", "package-lock.json", "package.json", "src", "vite.config.ts"];

function files(path: string): string[] {
  if (!statSync(path).isDirectory()) return [path];
  return readdirSync(path).flatMap((name) => files(join(path, name)));
}

export function digest(): string {
  let hash = 0xcbf29ce484222325n;
  const add = (bytes: Uint8Array) => {
    for (const byte of bytes) hash = ((hash ^ BigInt(byte)) * 0x100000001b3n) & 0xffffffffffffffffn;
  };
  for (const path of ROOTS.flatMap(files).sort()) {
    add(new TextEncoder().encode(`${path}\0`));
    add(readFileSync(path));
  }
  return hash.toString(16).padStart(16, "0");
}

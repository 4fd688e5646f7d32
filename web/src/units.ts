// Figures as people read them.

const STEPS = ["", "k", "M", "G", "T"];

function scaled(value: number, unit: string): string {
  let step = 0;
  while (Math.abs(value) >= 1000 && step < STEPS.length - 1) {
    value /= 1000;
    step += 1;
  }
  return `${value.toFixed(value < 10 && step > 0 ? 1 : 0)} ${STEPS[step]}${unit}`;
}

export const rate = (bps: number) => scaled(bps, "b/s");
export const size = (bytes: number) => scaled(bytes, "B");
export const millis = (seconds: number | null) => (seconds === null ? "–" : `${(seconds * 1000).toFixed(seconds < 0.01 ? 1 : 0)} ms`);
export const percent = (ratio: number | null) => (ratio === null ? "–" : `${(ratio * 100).toFixed(1)}%`);

export function span(seconds: number): string {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

export const clock = (unixMs: number) => new Date(unixMs).toLocaleTimeString();

// The page that plays: fetches the stream as fragmented MP4, hands it to Media Source Extensions, and holds the picture
// a fraction of a second behind live by playing slightly faster or slower.
//
//   fetch ─▶ Boxes: whole boxes, the origin's clock out of `prft` ─▶ SourceBuffer ─▶ video ─▶ Playout: speed from depth
//
// All that it shows is in `window.levada` too, for programs.

const START_TARGET = 0.1; // seconds behind the newest picture that playing begins with...
const TARGET_MAX = 1; // ...and that stalls make of it at most
const TARGET_STEP = 0.05; // what a stall adds
const CALM_MS = 30000; // after so long without a stall it is tried closer again
const FAST_MS = 3000; // after so long of more speed the buffer would be shorter if it could
const SLACK = 0.04; // a depth that far from the target is left alone
const SPEED_MIN = 0.95;
const SPEED_MAX = 1.1;
const JUMP = 2; // more than that is a group: played faster it would take too long
const KEEP = 10; // seconds behind the picture that stay in the buffer
const LOOK_MS = 50;
const SHOW_MS = 500;
const EMPTY_MAX = 2; // so many answers without a picture, and another way is tried
const FIRST_MS = 10000; // how long the first picture may take to come
const RETRY_MS = [500, 1000, 2000, 5000];
const NEWS_MAX = 8 << 20; // bytes that wait for the browser's buffer
const CLOCKS_MAX = 600;

const params = new URLSearchParams(location.search);
const name = decodeURIComponent(location.pathname.replace(/^\/live\//, '').replace(/\/$/, ''));
const element = (id) => document.getElementById(id);
const video = element('video');

/** What it does, for programs. */
const state = {
  way: null,
  why: null,
  status: 'starting',
  latencyMs: null,
  bufferMs: null,
  speed: 1,
  target: START_TARGET,
  dropped: 0,
  stalls: 0,
  jumps: 0,
  firstFrameMs: null,
  frames: 0,
  leftOut: [],
  latencies: [],
};
window.levada = state;

/** The stream in another form, with the token that this page was opened with. */
function address(ending, more = {}) {
  const url = new URL(`/live/${name}${ending}`, location.origin);
  if (params.has('token')) url.searchParams.set('token', params.get('token'));
  for (const [key, value] of Object.entries(more)) url.searchParams.set(key, value);
  return url;
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function say(text) {
  if (state.status === text) return;
  state.status = text;
  element('status').textContent = text;
}

function use(way, why) {
  state.way = way;
  state.why = why;
  element('way').textContent = `${way}: ${why}`;
}

function leaveOut(codecs) {
  state.leftOut = codecs;
  element('left-out').textContent = codecs.length > 0 ? codecs.join(', ') : 'nothing';
}

// ---- boxes

/** Cuts bytes into whole boxes, and takes the origin's clock out of them. */
class Boxes {
  rest = new Uint8Array(0);
  timescales = new Map();
  clocks = []; // { time: seconds of media, wall: milliseconds of Unix time }, growing

  /** The whole boxes that there are now, as one run of bytes; null if there is none. */
  push(bytes) {
    let all = bytes;
    if (this.rest.length > 0) {
      all = new Uint8Array(this.rest.length + bytes.length);
      all.set(this.rest);
      all.set(bytes, this.rest.length);
    }
    const view = new DataView(all.buffer, all.byteOffset, all.byteLength);
    let end = 0;
    while (end + 8 <= all.length) {
      const size = view.getUint32(end);
      if (size < 8) throw new Error('the stream is no MP4');
      if (end + size > all.length) break;
      const kind = view.getUint32(end + 4);
      if (kind === 0x6d6f6f76) this.readMovie(view, end + 8, end + size);
      if (kind === 0x70726674) this.readClock(view, end);
      end += size;
    }
    this.rest = all.slice(end);
    return end > 0 ? all.subarray(0, end) : null;
  }

  /** moov: which track counts how many ticks a second. */
  readMovie(view, from, to, track = { id: 0 }) {
    for (let at = from; at + 8 <= to; at += Math.max(8, view.getUint32(at))) {
      const kind = view.getUint32(at + 4);
      const end = Math.min(to, at + view.getUint32(at));
      if (kind === 0x7472616b) this.readMovie(view, at + 8, end, { id: 0 });
      if (kind === 0x6d646961) this.readMovie(view, at + 8, end, track);
      if (kind === 0x746b6864) track.id = view.getUint32(at + 20);
      if (kind === 0x6d646864) this.timescales.set(track.id, view.getUint32(at + 20));
    }
  }

  /** prft: track, NTP time, media time. */
  readClock(view, at) {
    const timescale = this.timescales.get(view.getUint32(at + 12));
    if (!timescale || view.getUint8(at + 8) !== 1) return;
    const seconds = view.getUint32(at + 16) - 2208988800;
    const wall = seconds * 1000 + (view.getUint32(at + 20) / 2 ** 32) * 1000;
    const time = Number(view.getBigUint64(at + 24)) / timescale;
    this.clocks.push({ time, wall });
    if (this.clocks.length > CLOCKS_MAX) this.clocks.shift();
  }

  /** When the origin handed over the picture of that time, in milliseconds of Unix time. */
  wallAt(time) {
    let best = null;
    for (let at = this.clocks.length - 1; at >= 0; at -= 1) {
      const clock = this.clocks[at];
      if (best === null || Math.abs(clock.time - time) < Math.abs(best.time - time)) best = clock;
      else if (clock.time < time - JUMP) break;
    }
    return best === null || Math.abs(best.time - time) > JUMP ? null : best.wall + (time - best.time) * 1000;
  }
}

// ---- the node's clock

/** What has to be added to this machine's clock to have the node's, by the quickest of a few answers. */
const clock = { offset: 0, trip: Infinity };
const nowMs = () => performance.timeOrigin + performance.now();

async function askClock() {
  for (let turn = 0; turn < 3; turn += 1) {
    const sent = nowMs();
    const response = await fetch('/clock', { cache: 'no-store' });
    const micros = Number(await response.text());
    const came = nowMs();
    if (response.ok && came - sent < clock.trip) {
      clock.trip = came - sent;
      clock.offset = micros / 1000 - (sent + came) / 2;
    }
  }
}

// ---- playout

/** Holds the buffer at its target by the speed. */
class Playout {
  calmSince = performance.now();
  fast = null; // the least depth since it plays faster, and since when that is so

  depth() {
    const ranges = video.buffered;
    return ranges.length > 0 ? ranges.end(ranges.length - 1) - video.currentTime : 0;
  }

  look() {
    if (video.paused || video.seeking || video.readyState < 2) return;
    const depth = this.depth();
    if (depth > state.target + JUMP) {
      state.jumps += 1;
      video.currentTime += depth - state.target;
      return;
    }
    const error = depth - state.target;
    const wanted = Math.abs(error) < SLACK ? 1 : 1 + error / 2;
    const speed = Math.min(SPEED_MAX, Math.max(SPEED_MIN, Math.round(wanted * 100) / 100));
    if (video.playbackRate !== speed) video.playbackRate = speed;
    state.speed = speed;
    const now = performance.now();
    this.accept(depth, speed, now);
    if (now - this.calmSince > CALM_MS && state.target > START_TARGET) {
      state.target = Math.max(START_TARGET, state.target - TARGET_STEP / 2);
      this.calmSince = now;
    }
  }

  /** A depth that no speed makes less is what the browser's decoder needs: it is the target then. */
  accept(depth, speed, now) {
    if (speed <= 1) {
      this.fast = null;
    } else if (this.fast === null || depth < this.fast.depth - SLACK / 4) {
      this.fast = { depth, since: now };
    } else if (now - this.fast.since > FAST_MS) {
      state.target = Math.min(TARGET_MAX, Math.round(depth * 100) / 100);
      this.calmSince = now;
      this.fast = null;
    }
  }

  stalled() {
    if (video.seeking || state.frames === 0) return;
    state.stalls += 1;
    state.target = Math.min(TARGET_MAX, state.target + TARGET_STEP);
    this.calmSince = performance.now();
  }
}

// ---- Media Source Extensions

const Source = self.ManagedMediaSource ?? self.MediaSource;

/** Which tracks of this type the browser takes: '' for all, 'video' or 'audio' for one kind, null for none. */
function choose(type) {
  if (Source.isTypeSupported(type)) return { only: '', without: [] };
  const words = (/codecs="([^"]*)"/.exec(type)?.[1] ?? '').split(',').filter(Boolean);
  const isSound = (word) => /^(mp4a|opus|ac-3|ec-3|flac)/i.test(word);
  const takes = (word) => Source.isTypeSupported(`${isSound(word) ? 'audio' : 'video'}/mp4; codecs="${word}"`);
  for (const [only, kind] of [['video', words.filter((w) => !isSound(w))], ['audio', words.filter(isSound)]]) {
    if (kind.length > 0 && kind.every(takes)) return { only, without: words.filter((w) => !kind.includes(w)) };
  }
  return { only: null, without: words };
}

class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

async function ask(more) {
  const abort = new AbortController();
  const response = await fetch(address('.mp4', more), { cache: 'no-store', signal: abort.signal });
  if (response.ok) return { response, abort };
  throw new Refused(response.status, (await response.text()).trim());
}

/** Opens a new source on the video. */
async function openSource() {
  const source = new Source();
  video.disableRemotePlayback = true;
  video.src = URL.createObjectURL(source);
  await new Promise((resolve) => source.addEventListener('sourceopen', resolve, { once: true }));
  URL.revokeObjectURL(video.src);
  source.duration = Infinity;
  return source;
}

/** Hands bytes to a SourceBuffer one after the other, and takes out what was played long ago. */
class Feeder {
  news = [];
  waiting = 0;
  last = 0;

  constructor(buffer) {
    this.buffer = buffer;
    buffer.addEventListener('updateend', () => this.pump());
  }

  push(bytes) {
    this.waiting += bytes.length;
    if (this.waiting > NEWS_MAX) throw new Error('the browser does not take the stream fast enough');
    this.news.push(bytes);
    this.last = performance.now();
    this.pump();
  }

  pump() {
    if (this.buffer.updating || this.news.length === 0) return;
    const ranges = this.buffer.buffered;
    const old = video.currentTime - KEEP;
    if (ranges.length > 0 && ranges.start(0) < old - KEEP) {
      this.buffer.remove(0, old);
      return;
    }
    const bytes = this.news.shift();
    this.waiting -= bytes.length;
    this.buffer.appendBuffer(bytes);
  }

  /** Everything that has come is in the buffer, and nothing more comes at once: the first burst is over. */
  isCalm() {
    const quiet = performance.now() - this.last;
    return !this.buffer.updating && this.news.length === 0 && this.buffer.buffered.length > 0 && quiet > 8;
  }
}

/** Begins at the newest picture rather than at the oldest that came. */
async function start(feeder) {
  const since = performance.now();
  while (!feeder.isCalm() && performance.now() - since < 2000) await sleep(4);
  const ranges = feeder.buffer.buffered;
  if (ranges.length === 0) return;
  const last = ranges.length - 1;
  video.currentTime = Math.max(ranges.start(last), ranges.end(last) - state.target);
  try {
    await video.play();
  } catch {
    say('Press play: the browser wants a click before it plays.');
  }
}

async function playByMse() {
  let chosen = { only: '', without: [] };
  let [{ response, abort }, source] = await Promise.all([ask({}), openSource()]);
  let type = response.headers.get('content-type');
  chosen = choose(type);
  if (chosen.only === null) {
    abort.abort();
    throw new Refused(406, `This browser plays none of ${chosen.without.join(', ')}. Open the stream in VLC.`);
  }
  if (chosen.only !== '') {
    abort.abort();
    ({ response, abort } = await ask({ only: chosen.only }));
    type = response.headers.get('content-type');
  }
  const omitted = (response.headers.get('levada-left-out') ?? '').split(', ').filter(Boolean);
  leaveOut([...omitted, ...chosen.without]);
  use('MSE', 'the browser takes fragmented MP4, which is closest to live');
  const boxes = new Boxes();
  const feeder = new Feeder(source.addSourceBuffer(type));
  feeder.buffer.mode = 'segments';
  const playout = new Playout();
  const looking = setInterval(() => playout.look(), LOOK_MS);
  const shown = state.frames;
  const patience = setTimeout(() => { if (state.frames === shown) abort.abort(); }, FIRST_MS);
  const onStall = () => playout.stalled();
  video.addEventListener('waiting', onStall);
  const watching = watch(boxes);
  try {
    const reader = response.body.getReader();
    let isStarted = false;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const whole = boxes.push(value);
      if (whole) feeder.push(whole);
      if (whole && !isStarted) {
        isStarted = true;
        start(feeder);
      }
      if (video.error) throw new Error(video.error.message);
    }
  } finally {
    abort.abort();
    clearInterval(looking);
    clearTimeout(patience);
    watching.stop();
    video.removeEventListener('waiting', onStall);
  }
}

/** Notes each picture that is shown, and how old it is then. */
function watch(boxes) {
  let goes = true;
  const onFrame = (_, shown) => {
    if (!goes) return;
    state.frames += 1;
    if (state.firstFrameMs === null) {
      state.firstFrameMs = performance.now();
      say('Playing');
      // Not before: it would take the network from the first picture.
      askClock().catch(() => {});
    }
    const wall = boxes.wallAt(shown.mediaTime);
    if (wall !== null && clock.trip < Infinity) {
      const painted = performance.timeOrigin + shown.expectedDisplayTime;
      state.latencies.push(painted + clock.offset - wall);
      if (state.latencies.length > CLOCKS_MAX) state.latencies.shift();
    }
    video.requestVideoFrameCallback(onFrame);
  };
  video.requestVideoFrameCallback?.(onFrame);
  return { stop: () => { goes = false; } };
}

// ---- LL-HLS by hls.js, where fragmented MP4 does not come through

async function loadHls() {
  if (!self.Hls) {
    const script = document.createElement('script');
    script.src = '/assets/hls.light.min.js';
    const loaded = new Promise((resolve, reject) => {
      script.onload = resolve;
      script.onerror = () => reject(new Error('hls.js does not load'));
    });
    document.head.append(script);
    await loaded;
  }
  return self.Hls;
}

async function playByHls(why) {
  const Hls = await loadHls();
  // Its worker would need a script from a buffer, which the page's policy does not allow.
  const hls = new Hls({ lowLatencyMode: true, enableWorker: false, maxLiveSyncPlaybackRate: SPEED_MAX });
  use('LL-HLS', why);
  const onStall = () => { if (state.frames > 0 && !video.seeking) state.stalls += 1; };
  video.addEventListener('waiting', onStall);
  const dates = { wallAt: (time) => {
    const details = hls.latestLevelDetails;
    const part = details?.fragments?.find((known) => time >= known.start && time < known.start + known.duration);
    const near = part ?? details?.fragments?.at(-1);
    return near?.programDateTime ? near.programDateTime + (time - near.start) * 1000 : null;
  } };
  const watching = watch(dates);
  try {
    const failed = new Promise((_, reject) => {
      hls.on(Hls.Events.ERROR, (_name, error) => {
        if (error.fatal) reject(new Error(`${error.type}: ${error.details}`));
      });
    });
    hls.loadSource(address('/ll.m3u8').href);
    hls.attachMedia(video);
    hls.on(Hls.Events.MANIFEST_PARSED, () => video.play().catch(() => say('Press play.')));
    await failed;
  } finally {
    watching.stop();
    video.removeEventListener('waiting', onStall);
    hls.destroy();
  }
}

// ---- native HLS, where there are no Media Source Extensions

async function playNative() {
  use('HLS', 'the browser has no Media Source Extensions, and plays HLS itself, seconds behind live');
  video.src = address('/index.m3u8');
  const failed = new Promise((_, reject) => {
    video.addEventListener('error', () => reject(new Error(video.error?.message ?? 'it does not play')), { once: true });
  });
  video.addEventListener('playing', () => say('Playing'));
  await failed;
}

// ---- motion JPEG

/** Pictures alone: an image that the node replaces. */
async function playByImage() {
  const image = element('image');
  const url = address('.mjpeg');
  const answer = await fetch(url, { method: 'HEAD', cache: 'no-store' });
  if (!answer.ok) return false;
  use('motion JPEG', 'the stream is that');
  leaveOut((answer.headers.get('levada-left-out') ?? '').split(', ').filter(Boolean));
  video.hidden = true;
  image.hidden = false;
  image.alt = `Pictures of ${name}`;
  const ended = new Promise((resolve) => image.addEventListener('error', resolve, { once: true }));
  image.addEventListener('load', () => say('Playing'), { once: true });
  image.src = url;
  await ended;
  return true;
}

// ---- figures

function figure(id, value, text) {
  const data = element(id);
  data.value = value;
  data.textContent = text;
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1];
}

function show() {
  const recent = state.latencies.slice(-30);
  if (recent.length > 0) {
    state.latencyMs = Math.round(median(recent));
    figure('latency', state.latencyMs, `${state.latencyMs} ms`);
  }
  const ranges = video.buffered;
  if (ranges.length > 0) {
    state.bufferMs = Math.round((ranges.end(ranges.length - 1) - video.currentTime) * 1000);
    figure('buffer', state.bufferMs, state.way === 'MSE' ? `${state.bufferMs} ms of ${Math.round(state.target * 1000)} ms` : `${state.bufferMs} ms`);
  }
  state.dropped = video.getVideoPlaybackQuality?.().droppedVideoFrames ?? 0;
  figure('speed', state.speed, `${Math.round(state.speed * 100)} %`);
  figure('dropped', state.dropped, String(state.dropped));
  figure('stalls', state.stalls, String(state.stalls));
}

function link(text, url) {
  const item = document.createElement('li');
  const anchor = document.createElement('a');
  anchor.href = url;
  anchor.textContent = url;
  item.append(`${text}: `, anchor);
  return item;
}

function describe() {
  document.title = `${name} – Levada`;
  element('name').textContent = name;
  video.setAttribute('aria-label', `Video of ${name}`);
  element('vlc').href = address('.m3u');
  const rtsp = document.body.dataset.rtsp;
  const items = [link('For televisions and VLC', address('.ts').href), link('HLS', address('/index.m3u8').href)];
  if (rtsp) items.unshift(link('RTSP', `rtsp://${location.hostname}:${rtsp}/${name}`));
  element('addresses').replaceChildren(...items);
  const frame = document.createElement('iframe');
  frame.src = address('/', { embed: '' }).href;
  frame.allow = 'autoplay; fullscreen';
  frame.width = 640;
  frame.height = 360;
  element('embed').value = frame.outerHTML;
  document.body.classList.toggle('embedded', params.has('embed'));
}

// ---- and all of it

async function run() {
  describe();
  setInterval(show, SHOW_MS);
  let empty = 0;
  for (let turn = 0; ; turn += 1) {
    const shown = state.frames;
    try {
      // "maybe" comes from browsers that cannot too: MSE is tried first.
      const isNative = !Source && video.canPlayType('application/vnd.apple.mpegurl') !== '';
      if (!Source && !isNative) {
        say('This browser has neither Media Source Extensions nor HLS. Open the stream in VLC.');
        return;
      }
      if (isNative) await playNative();
      else if (params.get('way') === 'hls') await playByHls('the address of this page asks for it');
      else if (empty >= EMPTY_MAX) await playByHls('fragmented MP4 came without a picture: something on the way holds it');
      else await playByMse();
      say('The stream ended. Waiting for it to come back…');
    } catch (error) {
      if (error instanceof Refused && error.status === 406 && (await playByImage().catch(() => false))) continue;
      const text = error instanceof Refused ? error.message : `The connection broke: ${error.message}`;
      say(`${text} Trying again…`);
    }
    // An answer without a picture: a proxy that wants the whole before it gives any, perhaps.
    empty = state.frames > shown ? 0 : empty + 1;
    if (state.frames > shown) turn = 0;
    await sleep(RETRY_MS[Math.min(turn, RETRY_MS.length - 1)]);
  }
}

await run();

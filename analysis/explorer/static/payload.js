// The payload of analysis/explorer/payload.py, unpacked.

const bytesOf = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));

async function unpack(packed) {
  const bytes = packed instanceof Uint8Array ? packed
    : new Uint8Array(packed.buffer, packed.byteOffset, packed.byteLength);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

function floats(base64) {
  const bytes = bytesOf(base64);
  return new Float64Array(bytes.buffer, 0, bytes.length / 8);
}

/** Places in a list of words, as analysis/explorer/payload.py packs them. */
function placesOf(base64, wide) {
  const { buffer } = bytesOf(base64);
  return wide ? new Uint32Array(buffer) : new Uint16Array(buffer);
}

/** For each k up to maxRank, how many names of each head have a rank below k: a look-up. */
function countsBelow(ranks, nHeads, nPairs, maxRank) {
  const counts = Array.from({ length: maxRank + 1 }, () => new Uint32Array(nHeads));
  for (let head = 0, at = 0; head < nHeads; head++) {
    for (let pair = 0; pair < nPairs; pair++, at++) {
      if (ranks[at] < maxRank) counts[ranks[at] + 1][head]++;
    }
  }
  for (let k = 1; k <= maxRank; k++) {
    for (let head = 0; head < nHeads; head++) counts[k][head] += counts[k - 1][head];
  }
  return counts;
}

function readSet(set, payload) {
  const nHeads = payload.n_layers * payload.n_heads;
  const read = { ...set, top: bytesOf(set.top), bottom: bytesOf(set.bottom) };
  read.nPairs = set.sources.length;
  read.below = {
    top: countsBelow(read.top, nHeads, read.nPairs, payload.max_rank),
    bottom: countsBelow(read.bottom, nHeads, read.nPairs, payload.max_rank),
  };
  return read;
}

/** The names of a set, or its pairs. */
const wordsOf = ({ sources, targets }) =>
  (targets ? sources.map((word, at) => [word, targets[at]]) : sources);

/** Whether a name, or either word of a pair, holds a text, in any letter case. */
const holds = (set, pair, text) => [set.sources, set.targets].some((words) =>
  words && words[pair].toLowerCase().includes(text.toLowerCase()));

/** The names of a set that hold a text, in any letter case, as a set of their own. */
function filterSet(set, only, nHeads, maxRank) {
  const places = Array.from(set.sources.keys()).filter((pair) => holds(set, pair, only));
  const nPairs = places.length;
  if (!nPairs) return set; // the filter's control says so
  const pick = (ranks) => {
    const picked = new Uint8Array(nHeads * nPairs);
    for (let head = 0, at = 0; head < nHeads; head++) {
      for (const place of places) picked[at++] = ranks[head * set.nPairs + place];
    }
    return picked;
  };
  const [top, bottom] = [pick(set.top), pick(set.bottom)];
  return { ...set, whole: set, only, places, nPairs, top, bottom,
    sources: places.map((place) => set.sources[place]),
    targets: set.targets && places.map((place) => set.targets[place]),
    below: { top: countsBelow(top, nHeads, nPairs, maxRank),
      bottom: countsBelow(bottom, nHeads, nPairs, maxRank) } };
}

function readPayload(raw) {
  if (raw.format !== "name-heads explorer" || raw.version !== 1) {
    throw new Error("this is not a result that this explorer can read: make it again.");
  }
  const data = { ...raw, nHeads: raw.n_layers * raw.n_heads };
  data.sets = raw.sets.map((set) => readSet(set, raw));
  data.measures = raw.measures.map(readMeasure);
  data.prompts = (raw.prompts || []).map(readPrompt);
  return data;
}

/** What every head does on a prompt; `of(i)` is what Python says of head i. */
function readPrompt(packed) {
  const n = packed.tokens.length, size = (n * (n + 1)) / 2;
  const shares = new Uint16Array(bytesOf(packed.attention).buffer);
  const end = ({ n: shown, words, logits }) => {
    const places = placesOf(words, packed.wide), numbers = floats(logits);
    return (i) => Array.from({ length: shown }, (_, at) => ({
      token: packed.words[places[i * shown + at]], logit: numbers[i * shown + at] }));
  };
  const [most, least] = [end(packed.most), end(packed.least)];
  const row = (i, from) => Array.from({ length: n }, (_, to) => (to > from ? 0
    : shares[i * size + (from * (from + 1)) / 2 + to] / packed.steps));
  return { text: packed.text, of: (i) => ({ tokens: packed.tokens, most: most(i), least: least(i),
    attention: packed.tokens.map((_, from) => row(i, from)) }) };
}

function readMeasure(measure) {
  const read = { ...measure };
  for (const part of ["values", "low", "high"]) {
    if (measure[part]) read[part] = floats(measure[part]);
  }
  return read;
}

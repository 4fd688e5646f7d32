// All words of the page, in English and Portuguese.

const en = {
  streams: "Streams", neighbours: "Neighbours", sessions: "Sessions", drops: "What was dropped", events: "Events",
  charts: "Last minutes", lastHours: "Last hours", map: "Map", name: "Name", state: "State", tracks: "Tracks", peak: "Peak",
  viewers: "Viewers", distance: "Distance", play: "Play", roundTrip: "Round trip", lossIn: "Loss in", lossOut: "Loss out",
  address: "Address", cause: "Why", role: "Role", stream: "Stream", protocol: "Protocol", from: "From", since: "Since",
  bytes: "Bytes", program: "Program", end: "End", endAsk: "End session {0} of {1}?", noStreams: "No stream is on yet.",
  firstRun: "Three things to do first", firstPublish: "Publish something: the test card, a file, a folder, a camera",
  firstJoin: "Run a second node on another machine, and join them", firstPlay: "Play a stream in any player",
  copy: "Copy", copied: "Copied", noNeighbours: "No neighbours: a node on another machine joins with the command above.",
  noSessions: "Nobody plays or publishes by a gateway of this node.", noDrops: "Nothing was dropped.",
  received: "received", sent: "sent", loss: "loss", cpu: "processor", dropped: "dropped per s",
  lost: "The node does not answer; the page goes on when it does.", up: "running for {0}", here: "this node",
  origin: "origin", local: "from here", filter: "Filter", language: "Português", leave: "Leave",
  leaveAsk: "Have this node leave the network? Its streams are taken back, and it stops.", choose: "Show the way of a stream",
  none: "none", packets: "Count", reason: "Reason", meaning: "Meaning", video: "video", audio: "audio", data: "data",
  skipTo: "Skip to content", relay: "relay", via: "from {0}; neighbours that it goes to: {1}; players and programs here: {2}",
};

const pt: typeof en = {
  streams: "Emissões", neighbours: "Vizinhos", sessions: "Sessões", drops: "O que foi descartado", events: "Acontecimentos",
  charts: "Últimos minutos", lastHours: "Últimas horas", map: "Mapa", name: "Nome", state: "Estado", tracks: "Faixas",
  peak: "Pico", viewers: "Espectadores", distance: "Distância", play: "Ver", roundTrip: "Ida e volta", lossIn: "Perda a entrar",
  lossOut: "Perda a sair", address: "Endereço", cause: "Porquê", role: "Papel", stream: "Emissão", protocol: "Protocolo",
  from: "De", since: "Desde", bytes: "Bytes", program: "Programa", end: "Terminar", endAsk: "Terminar a sessão {0} de {1}?",
  noStreams: "Ainda não há emissões.", firstRun: "Três coisas para começar",
  firstPublish: "Publicar algo: a mira técnica, um ficheiro, uma pasta, uma câmara",
  firstJoin: "Correr um segundo nó noutra máquina, e juntá-los", firstPlay: "Ver uma emissão em qualquer leitor",
  copy: "Copiar", copied: "Copiado", noNeighbours: "Sem vizinhos: um nó noutra máquina junta-se com o comando acima.",
  noSessions: "Ninguém vê nem publica por uma porta deste nó.", noDrops: "Nada foi descartado.",
  received: "recebido", sent: "enviado", loss: "perda", cpu: "processador", dropped: "descartados por s",
  lost: "O nó não responde; a página continua quando ele voltar.", up: "a correr há {0}", here: "este nó",
  origin: "origem", local: "daqui", filter: "Filtrar", language: "English", leave: "Sair",
  leaveAsk: "Este nó deve sair da rede? As suas emissões são retiradas, e ele pára.", choose: "Mostrar o caminho de uma emissão",
  none: "nenhuma", packets: "Quantos", reason: "Motivo", meaning: "Significado", video: "vídeo", audio: "som", data: "dados",
  skipTo: "Saltar para o conteúdo", relay: "retransmissor", via: "de {0}; vizinhos para onde vai: {1}; leitores e programas aqui: {2}",
};

export type Words = typeof en;
export const LANGUAGES = { en, pt };

export function fill(text: string, ...values: (string | number)[]): string {
  return text.replace(/\{(\d)\}/g, (_, at) => String(values[Number(at)] ?? ""));
}

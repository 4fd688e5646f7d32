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
  skipTo: "Skip to content", relay: "relay", hub: "hub of its site", plays: "plays the stream", mapNodes: "{0} nodes answer",
  notReached: "not reached", wayOf: "The way of {0}:", inAll: "In all {0} from the origin", repaired: "{0} packets repaired",
  notHere: "{0} does not flow to this node: play it here, and its way is shown in words too.", asTable: "As a table",
  actions: "Publish and connect", source: "Source", again: "again and again", publish: "Publish", connect: "Connect",
  isPublished: "{0} is published.", isDialled: "{0} is dialled: see the neighbours.", disconnect: "Disconnect",
  disconnectAsk: "Close the link to {0}, and dial it no more?", takeBack: "Take back", takeBackAsk: "Take {0} back?",
  hopsAway: "Hops", watch: "Watch", watching: "Live: {0}", close: "Close",
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
  skipTo: "Saltar para o conteúdo", relay: "retransmissor", hub: "centro do seu local", plays: "recebe a emissão",
  mapNodes: "{0} nós respondem", notReached: "não alcançado", wayOf: "O caminho de {0}:", inAll: "Ao todo {0} desde a origem",
  repaired: "{0} pacotes reparados", notHere: "{0} não chega a este nó: veja-a aqui, e o caminho aparece também em palavras.",
  actions: "Publicar e ligar", source: "Fonte", again: "sem parar", publish: "Publicar", connect: "Ligar",
  isPublished: "{0} está publicada.", isDialled: "A ligar a {0}: veja os vizinhos.", disconnect: "Desligar",
  disconnectAsk: "Fechar a ligação a {0}, e não voltar a ligar?", takeBack: "Retirar", takeBackAsk: "Retirar {0}?",
  asTable: "Como tabela", hopsAway: "Saltos", watch: "Ver aqui", watching: "Ao vivo: {0}", close: "Fechar",
};

export type Words = typeof en;
export const LANGUAGES = { en, pt };

export function fill(text: string, ...values: (string | number)[]): string {
  return text.replace(/\{(\d)\}/g, (_, at) => String(values[Number(at)] ?? ""));
}

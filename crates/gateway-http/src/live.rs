//! What is answered at which path.
//!
//! Not streams' bytes (`format`, `playback`) and not pages (`assets`, `list`). Called by hyper through `serve`.
//! Invariant: nothing of a stream is said to who may not play it, not even whether there is such a stream.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use levada::StreamName;
use levada_gateway::session::About;
use levada_gateway::{Encode, Role, Streams, Transport};

use crate::access::{self, parameter};
use crate::format::{Chunk, Outline, Tracks};
use crate::hls::{Ask as Wanted, Wanted as Least, answer};
use crate::playback::Playback;
use crate::problem::Problem;
use crate::serve::Peer;
use crate::server::Shared;
use crate::target::{Form, Target};
use crate::{assets, list};

/// How long an answer may wait for a stream's first picture: players give up later.
const PATIENCE: Duration = Duration::from_secs(8);
/// The same where no node is known to offer it: an announce may be on its way.
const UNKNOWN_PATIENCE: Duration = Duration::from_secs(2);
/// Letters of what a client calls itself that are kept.
const AGENT_MAX: usize = 200;
/// What the format leaves out of a stream, by codec.
const LEFT_OUT: HeaderName = HeaderName::from_static("levada-left-out");

/// All paths of the gateway, and what is said where there is nothing.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    let away = || async { Redirect::temporary("/live/") };
    Router::new()
        .route("/", get(away))
        .route("/live", get(away))
        .route("/live/", get(on).options(preflight))
        .route("/live/{*path}", get(stream).options(preflight))
        .route("/clock", get(clock).options(preflight))
        .route("/assets/{file}", get(assets::file))
        .layer(map_response(share))
        .fallback(nothing)
        .with_state(shared)
}

/// What is said where there is nothing.
async fn nothing() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "there is nothing at this path: what is on is listed at /live/",
    )
}

/// Lets pages of other sites use what is answered here: who may is decided by users and tokens, not by cookies. It is
/// for the gateway's own paths alone: others on this port may be for one site only.
async fn share(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
        HeaderValue::from_static("*"),
    );
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("*"),
    );
    response
}

async fn preflight() -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, OPTIONS"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "Authorization, Range"),
        (header::ACCESS_CONTROL_MAX_AGE, "86400"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// The node's clock, in microseconds of Unix time: pages measure by it how far behind live they are.
async fn clock() -> Response {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let mut response = since.as_micros().to_string().into_response();
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn on(
    State(shared): State<Arc<Shared>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let proof = access::proof(&headers, uri.query());
    let user = access::identify(shared.kit.users(), proof).await?;
    Ok(list::answer(
        &shared,
        user.as_deref(),
        &headers,
        uri.query(),
    ))
}

/// What a client asks for, checked.
struct Ask {
    shared: Arc<Shared>,
    peer: Peer,
    name: StreamName,
    user: Option<String>,
    agent: String,
    is_head: bool,
}

impl Ask {
    /// What a session of this client is.
    fn about(&self, protocol: &'static str) -> About {
        About {
            role: Role::Play,
            stream: self.name.clone(),
            protocol,
            transport: Transport::Tcp,
            user: self.user.clone(),
            remote: self.peer.remote(),
            agent: self.agent.clone(),
        }
    }
}

async fn stream(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let path = uri.path().strip_prefix("/live/").unwrap_or_default();
    let target = Target::parse(path);
    let target = target.map_err(|why| {
        let text = format!("this path names no stream: {why}");
        Problem::new(StatusCode::BAD_REQUEST, text)
    })?;
    let proof = access::proof(&headers, uri.query());
    let user = access::check(shared.kit.users(), proof, &target.name).await?;
    let agent = headers
        .get(header::USER_AGENT)
        .and_then(|agent| agent.to_str().ok());
    let ask = Ask {
        name: target.name,
        user,
        agent: agent.unwrap_or_default().chars().take(AGENT_MAX).collect(),
        is_head: method == Method::HEAD,
        peer,
        shared: Arc::clone(&shared),
    };
    match target.form {
        Form::Page => Ok(assets::player(shared.rtsp_port, &headers)),
        Form::M3u => Ok(m3u(&ask.name, &headers, uri.query())),
        Form::Hls(wanted) => hls(&ask, &wanted, &headers, uri.query()).await,
        Form::Ts => play(&shared.ts, ask, "http-ts").await,
        Form::Mjpeg => play(&shared.mjpeg, ask, "http-mjpeg").await,
        Form::Mp4 => {
            let wanted = match parameter(uri.query(), "only") {
                None => Tracks::All,
                Some("video") => Tracks::Video,
                Some("audio") => Tracks::Audio,
                Some(_) => {
                    let text = "`only` is `video` or `audio`";
                    return Err(Problem::new(StatusCode::BAD_REQUEST, text));
                }
            };
            play(shared.mp4(wanted), ask, "http-mp4").await
        }
    }
}

/// Plays a stream for as long as it goes on and the client takes it.
async fn play<E>(
    streams: &Streams<E>,
    ask: Ask,
    protocol: &'static str,
) -> Result<Response, Problem>
where
    E: Encode<Body = Chunk, Outline = Outline>,
{
    let problem = |error| Problem::of_source(&ask.name, &error);
    let source = streams.source(&ask.name).await.map_err(problem)?;
    let is_known = ask.shared.catalogue.has(&ask.name);
    let patience = if is_known { PATIENCE } else { UNKNOWN_PATIENCE };
    let outline = source.ready(patience).await.map_err(problem)?;
    let body = if ask.is_head {
        Body::empty()
    } else {
        let session = ask.shared.kit.registry().begin(ask.about(protocol));
        let playback = Playback::new(
            source,
            session,
            ask.shared.kit.gate().limits().client_bytes_max,
        );
        ask.peer.watch(playback.progress());
        Body::new(playback)
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Live has no beginning that a range could count from.
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("none"));
    if let Ok(kind) = outline.content_type.parse() {
        headers.insert(header::CONTENT_TYPE, kind);
    }
    if !outline.left_out.is_empty()
        && let Ok(codecs) = outline.left_out.join(", ").parse()
    {
        headers.insert(LEFT_OUT, codecs);
    }
    Ok(response)
}

/// Answers a request for a playlist or segment.
async fn hls(
    ask: &Ask,
    wanted: &Wanted,
    headers: &HeaderMap,
    query: Option<&str>,
) -> Result<Response, Problem> {
    let (shared, name) = (&ask.shared, &ask.name);
    let problem = |error| Problem::of_hls(name, &error);
    let cut = shared.cuts.get(name, shared.catalogue.has(name)).await;
    let cut = cut.map_err(problem)?;
    let token = token(query);
    let (response, bytes) = match wanted {
        Wanted::Master => {
            let peak = shared.catalogue.peak_bps(name);
            let text = cut.master("media.m3u8", peak, &token).await;
            let text = text.map_err(problem)?;
            (answer::playlist(text), 0)
        }
        Wanted::LowMaster => {
            let peak = shared.catalogue.peak_bps(name);
            let text = cut.master("low.m3u8", peak, &token).await;
            (answer::playlist(text.map_err(problem)?), 0)
        }
        Wanted::Low => {
            let text = cut.low(least(query), &token).await.map_err(problem)?;
            (answer::playlist(text), 0)
        }
        Wanted::Media => {
            let text = cut.media(&token).await.map_err(problem)?;
            (answer::playlist(text), 0)
        }
        Wanted::File(file) => {
            let bytes = cut.file(file).await.map_err(problem)?;
            let count = bytes.len();
            (
                answer::file(bytes, shared.kit.users().is_open(), headers),
                count,
            )
        }
    };
    if ask.is_head {
        return Ok(response);
    }
    let bytes_max = shared.kit.gate().limits().client_bytes_max;
    let noted = shared
        .visits
        .note(ask.about("hls"), bytes, bytes_max, Instant::now());
    noted.map_err(Problem::of_turned)?;
    Ok(response)
}

/// What goes behind each address of a playlist: what is asked for next needs the token too.
pub(crate) fn token(query: Option<&str>) -> String {
    let is_plain = |token: &&str| {
        let mut letters = token.chars();
        letters.all(|letter| {
            letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.' | '~' | '%')
        })
    };
    let token = parameter(query, "token").filter(is_plain);
    token.map_or_else(String::new, |token| format!("?token={token}"))
}

/// What a playlist is to have before it is answered.
pub(crate) fn least(query: Option<&str>) -> Option<Least> {
    let number = |name| parameter(query, name)?.parse::<u64>().ok();
    Some(Least {
        segment: number("_HLS_msn")?,
        part: number("_HLS_part").and_then(|part| usize::try_from(part).ok()),
    })
}

/// A playlist of the transport stream, which browsers hand to VLC.
fn m3u(name: &StreamName, headers: &HeaderMap, query: Option<&str>) -> Response {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let is_plain = |host: &&str| {
        host.chars().all(|letter| {
            letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | ':' | '[' | ']')
        })
    };
    let Some(host) = host.filter(is_plain) else {
        let text =
            "the request does not say by which name this node was reached: send a `Host` header";
        return Problem::new(StatusCode::BAD_REQUEST, text).into_response();
    };
    let token = parameter(query, "token").map(|token| format!("?token={token}"));
    let text = format!(
        "#EXTM3U\n#EXTINF:-1,{name}\nhttp://{host}/live/{name}.ts{}\n",
        token.unwrap_or_default()
    );
    let mut response = text.into_response();
    let out = response.headers_mut();
    out.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("audio/x-mpegurl"),
    );
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let file = name.as_str().replace('/', "-");
    if let Ok(value) = format!("attachment; filename=\"{file}.m3u\"").parse() {
        out.insert(header::CONTENT_DISPOSITION, value);
    }
    response
}

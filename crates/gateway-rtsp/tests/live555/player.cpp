// A player on live555, the RTSP library of VLC: it plays a URL for some seconds and says what came.
//
//   player URL tcp|udp|multicast SECONDS [USER PASSWORD]
//
// For each track one line `MEDIUM CODEC frames=N bytes=N synchronised=0|1`, at the end `ended=time|bye|...`. It fails if
// the stream cannot be played. For the tests of Levada alone; live555 itself is fetched and built by `build.sh`.

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "BasicUsageEnvironment.hh"
#include "liveMedia.hh"

namespace {

const unsigned BUFFER_BYTES = 1 << 20;

UsageEnvironment* env;
MediaSession* session;
MediaSubsessionIterator* next_track;
MediaSubsession* track;
bool by_tcp, by_multicast;
double seconds;
char volatile over = 0;
const char* ended = "time";

// Counts what a track brings.
class Counter : public MediaSink {
public:
  Counter(UsageEnvironment& env, MediaSubsession& of) : MediaSink(env), of(of), buffer(BUFFER_BYTES) {}

  MediaSubsession& of;
  unsigned frames = 0, bytes = 0, cut = 0;
  bool is_synchronised = false;

private:
  Boolean continuePlaying() override {
    if (fSource == nullptr) return False;
    fSource->getNextFrame(buffer.data(), BUFFER_BYTES, on_frame, this, onSourceClosure, this);
    return True;
  }

  static void on_frame(void* self, unsigned size, unsigned lost, struct timeval, unsigned) {
    auto counter = static_cast<Counter*>(self);
    counter->frames += 1;
    counter->bytes += size;
    counter->cut += lost > 0;
    auto source = counter->of.rtpSource();
    counter->is_synchronised |= source != nullptr && source->hasBeenSynchronizedUsingRTCP();
    counter->continuePlaying();
  }

  std::vector<unsigned char> buffer;
};

std::vector<Counter*> counters;

void fail(const char* what, const char* why) {
  fprintf(stderr, "%s: %s\n", what, why);
  exit(1);
}

void on_time(void*) { over = 1; }

void on_bye(void*) {
  ended = "bye";
  over = 1;
}

void after_play(RTSPClient*, int code, char* text) {
  if (code != 0) fail("PLAY", text);
  env->taskScheduler().scheduleDelayedTask(static_cast<int64_t>(seconds * 1e6), on_time, nullptr);
}

void set_up(RTSPClient* client);

void after_set_up(RTSPClient* client, int code, char* text) {
  if (code != 0) fail("SETUP", text);
  auto counter = new Counter(*env, *track);
  counters.push_back(counter);
  track->sink = counter;
  counter->startPlaying(*track->readSource(), on_bye, nullptr);
  if (track->rtcpInstance() != nullptr) track->rtcpInstance()->setByeHandler(on_bye, nullptr);
  set_up(client);
}

void set_up(RTSPClient* client) {
  track = next_track->next();
  if (track == nullptr) {
    client->sendPlayCommand(*session, after_play);
    return;
  }
  if (!track->initiate()) fail("a track cannot be received", env->getResultMsg());
  client->sendSetupCommand(*track, after_set_up, False, by_tcp, by_multicast);
}

void after_describe(RTSPClient* client, int code, char* text) {
  if (code != 0) fail("DESCRIBE", text);
  session = MediaSession::createNew(*env, text);
  if (session == nullptr || !session->hasSubsessions()) fail("the description", env->getResultMsg());
  next_track = new MediaSubsessionIterator(*session);
  set_up(client);
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 4) fail("arguments", "URL tcp|udp|multicast SECONDS [USER PASSWORD]");
  by_tcp = strcmp(arguments[2], "tcp") == 0;
  by_multicast = strcmp(arguments[2], "multicast") == 0;
  seconds = atof(arguments[3]);
  env = BasicUsageEnvironment::createNew(*BasicTaskScheduler::createNew());
  auto client = RTSPClient::createNew(*env, arguments[1], 0, "live555 test player");
  Authenticator authenticator(count > 5 ? arguments[4] : "", count > 5 ? arguments[5] : "");
  client->sendDescribeCommand(after_describe, count > 5 ? &authenticator : nullptr);
  env->taskScheduler().doEventLoop(&over);
  for (auto counter : counters) {
    printf("%s %s frames=%u bytes=%u cut=%u synchronised=%d\n", counter->of.mediumName(), counter->of.codecName(),
           counter->frames, counter->bytes, counter->cut, counter->is_synchronised);
  }
  printf("ended=%s\n", ended);
  client->sendTeardownCommand(*session, nullptr);
  fflush(stdout);
  // The event loop has no part in sending what fits into a socket.
  _exit(0);
}

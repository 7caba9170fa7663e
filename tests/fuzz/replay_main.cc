// replay DIRECTORY: runs the fuzz target that it is linked with on a corpus.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <string>

#include "tests/fuzz/replay.h"
#include "tests/fuzz/target.h"

namespace {

// What runs now, for the handler: no allocation there.
std::array<char, 1024> g_running{};

void say_where(int signal) {
    const char* text = g_running.data();
    size_t length = 0;
    while (length < g_running.size() && text[length] != '\0') ++length;
    // Nothing can be done about a message that can't be written.
    [[maybe_unused]] const ssize_t put = ::write(STDERR_FILENO, text, length);
    std::signal(signal, SIG_DFL);
    std::raise(signal);
}

void note(const std::string& name) {
    const std::string line = "it ended in " + name + "\n";
    const size_t length = std::min(line.size(), g_running.size() - 1);
    std::copy_n(line.begin(), length, g_running.begin());
    g_running[length] = '\0';
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) {
        std::fprintf(stderr, "usage: %s CORPUS_DIRECTORY\n", argv[0]);
        return 2;
    }
    for (const int signal : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL})
        std::signal(signal, say_where);
    const auto replayed = godwit::replay_corpus(
        argv[1], [](const uint8_t* data, size_t size) { LLVMFuzzerTestOneInput(data, size); },
        note);
    if (!replayed.ok()) {
        std::fprintf(stderr, "%s\n", std::string(replayed.status().message()).c_str());
        return 1;
    }
    std::printf("%zu files, %zu inputs with their variants\n", replayed->files, replayed->inputs);
    return 0;
}

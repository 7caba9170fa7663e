// godwit libvirt …: what a domain needs to be moved, said and done without an agent.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

#include "tools/godwit/exit_code.h"

namespace godwit {

struct LibvirtWords {
    std::string uri = "qemu:///system";
    std::string domain;
    bool undo = false;
    bool resident = false;
    std::string library;         // of the resident; empty: beside this program
    bool yes = false;            // do it; otherwise only the difference is shown
    const bool* json = nullptr;  // print that
};

// Of a command that needs no agent.
using LocalAction = std::function<ExitCode()>;

// Adds `libvirt check` and `libvirt enable`; both must outlive the parsing.
void add_libvirt_commands(CLI::App& app, LibvirtWords& words, LocalAction& action);

// Says what is in the way, one a line, and what the operator must see to; kRefused when anything is
// in the way.
ExitCode libvirt_check(const LibvirtWords& words);
// Shows how the domain's definition would change, and with `yes` changes it.
ExitCode libvirt_enable(const LibvirtWords& words);

}  // namespace godwit

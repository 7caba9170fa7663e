// LabHost: where one side of a migration runs: this host, or a network namespace of it.
#pragma once

#include <string>
#include <vector>

namespace godwit {

struct LabHost {
    std::string address = "127.0.0.1";  // to listen on and to be reached at
    std::vector<std::string> wrapper;   // in front of every program; becomes it
    int name_space = -1;                // a descriptor of the namespace, not owned; -1: none
};

}  // namespace godwit

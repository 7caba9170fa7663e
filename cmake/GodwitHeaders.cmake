# godwit_headers(TARGET library|test): TARGET reads others' headers that most sources include, with `test`
# GoogleTest's too, as they were compiled once. Only with clang, where sources are joined in units: without
# optimisation, as for the sanitizers, that halves what a unit takes; of gcc's -O2 it is 4 %. Other builds find
# what a source forgets to include.
set(godwit_precompiles OFF)
if(CMAKE_UNITY_BUILD AND CMAKE_CXX_COMPILER_ID STREQUAL Clang)
    set(godwit_precompiles ON)
endif()

set(godwit_most_read
    <absl/status/status.h> <absl/status/statusor.h> <absl/strings/str_join.h> <absl/strings/str_split.h>
    <fmt/format.h> <google/protobuf/map_field.h> <google/protobuf/message.h> <grpcpp/grpcpp.h>
    <nlohmann/json.hpp> <spdlog/spdlog.h>
    <algorithm> <array> <atomic> <cerrno> <chrono> <condition_variable> <cstdint> <cstdio> <cstdlib> <cstring>
    <deque> <filesystem> <fstream> <functional> <iostream> <iterator> <map> <memory> <mutex> <optional> <set>
    <span> <sstream> <stop_token> <string> <string_view> <thread> <utility> <variant> <vector>)

function(godwit_header_set name)
    cmake_parse_arguments(arg "" "" "HEADERS;LIBS" ${ARGN})
    add_library(godwit_headers_${name} OBJECT ${CMAKE_SOURCE_DIR}/cmake/headers.cc)
    set_target_properties(godwit_headers_${name} PROPERTIES UNITY_BUILD OFF)
    target_link_libraries(godwit_headers_${name} PRIVATE
        ${arg_LIBS} absl::status absl::statusor absl::strings fmt::fmt gRPC::grpc++
        nlohmann_json::nlohmann_json protobuf::libprotobuf spdlog::spdlog godwit_options)
    target_precompile_headers(godwit_headers_${name} PRIVATE ${arg_HEADERS} ${godwit_most_read})
endfunction()

if(godwit_precompiles)
    godwit_header_set(library)
    if(GODWIT_BUILD_TESTS)
        godwit_header_set(test HEADERS <gmock/gmock.h> <gtest/gtest.h> LIBS GTest::gmock GTest::gtest)
    endif()
endif()

function(godwit_headers target set)
    if(godwit_precompiles)
        target_compile_options(${target} PRIVATE -pthread)  # gRPC's headers want it
        target_precompile_headers(${target} REUSE_FROM godwit_headers_${set})
    endif()
endfunction()

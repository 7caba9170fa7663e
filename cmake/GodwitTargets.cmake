# godwit_library(NAME SOURCES … LIBS …): a static library of one room, alias godwit::NAME.
# godwit_test(NAME LABEL unit [TRACKERS] [THREADS] [SEPARATE] SOURCES … LIBS …): a GoogleTest program; one
# CTest test per case, and with TRACKERS each case of a KVM guest with either dirty tracker. THREADS: what
# it tests has several threads, and it runs under tsan too. SEPARATE: its sources use the same names,
# so that no unity build joins them.
add_library(godwit_options INTERFACE)
target_include_directories(godwit_options INTERFACE $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}>)
target_compile_options(godwit_options INTERFACE
    -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion -Wnon-virtual-dtor -Wno-missing-field-initializers
    $<$<CXX_COMPILER_ID:Clang>:-Wthread-safety>
    $<$<BOOL:${GODWIT_WERROR}>:-Werror>)

include(GodwitHeaders)

function(godwit_library name)
    cmake_parse_arguments(arg "" "" "SOURCES;LIBS" ${ARGN})
    add_library(godwit_${name} STATIC ${arg_SOURCES})
    godwit_headers(godwit_${name} library)
    add_library(godwit::${name} ALIAS godwit_${name})
    target_link_libraries(godwit_${name} PUBLIC ${arg_LIBS} PRIVATE godwit_options)
    target_include_directories(godwit_${name} PUBLIC $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}>)
endfunction()

function(godwit_program name)
    cmake_parse_arguments(arg "" "" "SOURCES;LIBS" ${ARGN})
    add_executable(${name} ${arg_SOURCES})
    godwit_headers(${name} library)
    target_link_libraries(${name} PRIVATE ${arg_LIBS} godwit_options)
endfunction()

# Seconds that one test of a label may take before CTest ends it.
set(godwit_timeout_unit 60)
set(godwit_timeout_unit-long 1800)
set(godwit_timeout_e2e 300)
set(godwit_timeout_fault 300)
set(godwit_timeout_fault-long 300)
set(godwit_timeout_hostile 120)
set(godwit_timeout_model 600)
set(godwit_timeout_model-long 7200)
set(godwit_timeout_sim 300)
set(godwit_timeout_sim-long 1200)
set(godwit_timeout_bench-smoke 120)

# Where CTest knows no times of an earlier run it begins with what these say costs most. The searches of
# the models go one at a time, so they begin first of all, beside the others; what is short ends the run.
set(godwit_cost_unit 0)
set(godwit_cost_unit-long 0)
set(godwit_cost_hostile 10)
set(godwit_cost_e2e 20)
set(godwit_cost_fault 30)
set(godwit_cost_fault-long 30)
set(godwit_cost_model 40)
set(godwit_cost_model-long 40)
set(godwit_cost_sim 10)
set(godwit_cost_sim-long 10)
set(godwit_cost_bench-smoke 0)

# Tests that measure run alone; the others spend most of their time waiting.
set(godwit_serial_labels bench-smoke)

include(GodwitSanitizers)

function(godwit_test name)
    cmake_parse_arguments(arg "TRACKERS;THREADS;SEPARATE" "LABEL" "SOURCES;LIBS" ${ARGN})
    if(NOT arg_LABEL)
        set(arg_LABEL unit)
    endif()
    add_executable(${name} ${arg_SOURCES})
    godwit_headers(${name} test)
    target_link_libraries(${name} PRIVATE ${arg_LIBS} godwit_options GTest::gmock GTest::gtest
                          GTest::gtest_main)
    if(arg_SEPARATE)
        set_target_properties(${name} PROPERTIES UNITY_BUILD OFF)
    endif()
    godwit_test_label(${name} ${arg_LABEL} label)
    if(arg_THREADS AND GODWIT_SANITIZER STREQUAL "tsan")
        godwit_test_label(${name} threads label)
    endif()
    set(properties LABELS ${label} TIMEOUT ${godwit_timeout_${arg_LABEL}}
        SKIP_REGULAR_EXPRESSION "\\[  SKIPPED \\]"
        COST ${godwit_cost_${arg_LABEL}})
    if(arg_LABEL IN_LIST godwit_serial_labels)
        list(APPEND properties RUN_SERIAL TRUE)
    endif()
    gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60 PROPERTIES ${properties})
    if(arg_TRACKERS)
        # Under KVM the tests take kvm-dirty-log by themselves; these once more with the other one.
        gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60 TEST_PREFIX "uffd-wp."
            TEST_FILTER "*/Kvm*:*/kvm" PROPERTIES ${properties}
            ENVIRONMENT GODWIT_TEST_TRACKER=uffd-wp)
    endif()
endfunction()

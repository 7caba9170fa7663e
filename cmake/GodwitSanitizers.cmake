# Builds with a sanitizer, of the presets asan and tsan: what ./dev sanitize builds and runs. Under asan that
# are these sets, under tsan the programs that say THREADS. There a test has the label sanitized-ROOM, and no
# other; ROOM is its directory in tests/unit, or else in tests.
set(godwit_sanitized_asan unit hostile sim)
set(godwit_sanitized_tsan threads)
add_custom_target(sanitizer_tests)

# What is watched is slower.
if(GODWIT_SANITIZER)
    foreach(label unit hostile sim)
        math(EXPR godwit_timeout_${label} "${godwit_timeout_${label}} * 5")
    endforeach()
endif()

# In `variable` the label of the tests of `target`, which is of the set `set`.
function(godwit_test_label target set variable)
    set(${variable} ${set} PARENT_SCOPE)
    if(NOT GODWIT_SANITIZER OR NOT set IN_LIST godwit_sanitized_${GODWIT_SANITIZER})
        return()
    endif()
    cmake_path(RELATIVE_PATH CMAKE_CURRENT_SOURCE_DIR BASE_DIRECTORY ${CMAKE_SOURCE_DIR}/tests
               OUTPUT_VARIABLE room)
    string(REGEX REPLACE "^unit/" "" room ${room})
    string(REGEX REPLACE "/.*" "" room ${room})
    set(${variable} sanitized-${room} PARENT_SCOPE)
    if(NOT TARGET sanitizer_tests_${room})
        add_custom_target(sanitizer_tests_${room})
        add_dependencies(sanitizer_tests sanitizer_tests_${room})
    endif()
    add_dependencies(sanitizer_tests_${room} ${target})
endfunction()

// Clang's thread-safety attributes; std::mutex is only checked where the library annotates it, so
// these are documentation under gcc and a check under clang with annotated libraries.
#pragma once

#if defined(__clang__) && defined(_LIBCPP_ENABLE_THREAD_SAFETY_ANNOTATIONS)
#define GODWIT_GUARDED_BY(mutex) __attribute__((guarded_by(mutex)))
#else
#define GODWIT_GUARDED_BY(mutex)
#endif

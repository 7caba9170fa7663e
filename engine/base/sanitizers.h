// Whether this is built with AddressSanitizer or ThreadSanitizer, for the few places that must
// know: GODWIT_ASAN and GODWIT_TSAN are 1 or 0. gcc and clang say it each in their own way.
#pragma once

#if defined(__has_feature)
#define GODWIT_ASAN __has_feature(address_sanitizer)
#define GODWIT_TSAN __has_feature(thread_sanitizer)
#else
#if defined(__SANITIZE_ADDRESS__)
#define GODWIT_ASAN 1
#else
#define GODWIT_ASAN 0
#endif
#if defined(__SANITIZE_THREAD__)
#define GODWIT_TSAN 1
#else
#define GODWIT_TSAN 0
#endif
#endif

// Whether this is built with AddressSanitizer, for the few places that must know: GODWIT_ASAN is 1
// or 0. gcc and clang say it each in their own way.
#pragma once

#if defined(__has_feature)
#define GODWIT_ASAN __has_feature(address_sanitizer)
#elif defined(__SANITIZE_ADDRESS__)
#define GODWIT_ASAN 1
#else
#define GODWIT_ASAN 0
#endif

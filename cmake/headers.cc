// Nothing of its own: godwit_headers(), in GodwitHeaders.cmake, compiles headers for it.

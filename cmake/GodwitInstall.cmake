include(GNUInstallDirs)
install(TARGETS godwit godwit-sim godwitd RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS godwit-guard RUNTIME DESTINATION ${CMAKE_INSTALL_LIBEXECDIR}/godwit)
install(DIRECTORY protos/godwit DESTINATION ${CMAKE_INSTALL_DATADIR}/godwit/protos
        FILES_MATCHING PATTERN "*.proto")
install(TARGETS godwit_resident_preload LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/godwit)

# The exported package holds what an orchestrator links: the generated API.
install(TARGETS godwit_protos EXPORT godwitTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY ${CMAKE_BINARY_DIR}/protos/godwit DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
        FILES_MATCHING PATTERN "*.pb.h")
install(EXPORT godwitTargets NAMESPACE godwit:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/godwit)
file(WRITE ${CMAKE_BINARY_DIR}/godwitConfig.cmake
"include(CMakeFindDependencyMacro)
find_dependency(absl)
find_dependency(Protobuf)
find_dependency(gRPC CONFIG)
include(\${CMAKE_CURRENT_LIST_DIR}/godwitTargets.cmake)
")
install(FILES ${CMAKE_BINARY_DIR}/godwitConfig.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/godwit)

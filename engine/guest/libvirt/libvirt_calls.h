// libvirt's functions, as many as Godwit calls, found when the first connection is opened: libvirt
// and the 55 libraries behind it take longer to load than everything else of a command, and a host
// whose VMs are the agent's own needs none of them.
//
// Within namespace godwit these names stand for what <libvirt/libvirt.h> declares. Only what comes
// after a successful load_libvirt() may call them.
#pragma once

#include <libvirt/libvirt-qemu.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#include "engine/base/status.h"

namespace godwit {

// Thread-safe; does its work once. Errors: FailedPrecondition when libvirt is not installed, or is
// too old: without one of the functions below.
absl::Status load_libvirt();

template <typename Function>
class LibvirtCall;

template <typename Result, typename... Arguments>
class LibvirtCall<Result(Arguments...)> {
  public:
    Result operator()(Arguments... arguments) const { return function_(arguments...); }

  private:
    friend absl::Status load_libvirt();
    Result (*function_)(Arguments...) = nullptr;
};

// clang-format off
#define GODWIT_LIBVIRT_CALLS(CALL) \
    CALL(virConnectClose) CALL(virConnectDomainEventDeregisterAny) \
    CALL(virConnectDomainEventRegisterAny) CALL(virConnectGetCapabilities) \
    CALL(virConnectGetType) CALL(virConnectGetVersion) CALL(virConnectIsAlive) \
    CALL(virConnectListAllDomains) CALL(virConnectOpen) CALL(virConnectRegisterCloseCallback) \
    CALL(virConnectSetKeepAlive) CALL(virConnectUnregisterCloseCallback) CALL(virDomainAbortJob) \
    CALL(virDomainCreateXML) CALL(virDomainDefineXML) CALL(virDomainDestroy) CALL(virDomainFree) \
    CALL(virDomainGetAutostart) CALL(virDomainGetID) CALL(virDomainGetJobInfo) \
    CALL(virDomainGetJobStats) CALL(virDomainGetName) CALL(virDomainGetUUIDString) \
    CALL(virDomainGetXMLDesc) CALL(virDomainIsActive) CALL(virDomainIsPersistent) \
    CALL(virDomainLookupByName) CALL(virDomainLookupByUUIDString) CALL(virDomainMigrateToURI3) \
    CALL(virDomainShutdown) CALL(virDomainUndefineFlags) CALL(virEventAddTimeout) \
    CALL(virEventRegisterDefaultImpl) CALL(virEventRunDefaultImpl) CALL(virEventUpdateTimeout) \
    CALL(virGetLastError) CALL(virInitialize) CALL(virResetLastError) CALL(virSetErrorFunc) \
    CALL(virTypedParamsAddString) CALL(virTypedParamsAddULLong) CALL(virTypedParamsFree) \
    CALL(virTypedParamsGetULLong)
#define GODWIT_LIBVIRT_QEMU_CALLS(CALL) \
    CALL(virConnectDomainQemuMonitorEventDeregister) \
    CALL(virConnectDomainQemuMonitorEventRegister) CALL(virDomainQemuMonitorCommand) \
    CALL(virDomainQemuMonitorCommandWithFiles)
// clang-format on

#define GODWIT_LIBVIRT_CALL(name) inline LibvirtCall<decltype(::name)> name;
GODWIT_LIBVIRT_CALLS(GODWIT_LIBVIRT_CALL)
GODWIT_LIBVIRT_QEMU_CALLS(GODWIT_LIBVIRT_CALL)
#undef GODWIT_LIBVIRT_CALL

}  // namespace godwit

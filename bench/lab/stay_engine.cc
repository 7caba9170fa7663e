#include "bench/lab/stay_engine.h"

#include <unistd.h>

#include "bench/guest/mailbox_layout.h"

namespace godwit {

StayEngine::StayEngine(const EngineName& name, const LabSetup& setup) : setup_(setup) {
    if (name.shared) file_ = setup_.mounts->file_path(memory_backing(setup_.guest), "stay-ram");
}

StayEngine::~StayEngine() {
    peer_.reset();
    if (!file_.empty()) ::unlink(file_.c_str());
}

absl::Status StayEngine::start_guest() {
    GODWIT_ASSIGN_OR_RETURN(board_, EventBoard::create(setup_.cancel_fd));
    if (!file_.empty())
        GODWIT_RETURN_IF_ERROR(
            setup_.mounts->create_file(memory_backing(setup_.guest), file_, setup_.guest.memory));
    GODWIT_ASSIGN_OR_RETURN(peer_, Peer::start({.program = setup_.qemu,
                                                .wrapper = setup_.hosts[0].wrapper,
                                                .guest = setup_.guest,
                                                .ram_file = file_},
                                               Side::kSource, *board_));
    if (file_.empty()) {
        GODWIT_ASSIGN_OR_RETURN(mailbox_, peer_->host_address(kMailboxAddress));
        if (!ticks_->show(peer_->pid(), mailbox_))
            return absl::PermissionDeniedError("Cannot read the memory of a QEMU of our own");
    }
    GODWIT_ASSIGN_OR_RETURN(const MailboxReader reader, mailbox());
    return wait_until_running(reader, setup_.cancel_fd);
}

std::vector<std::shared_ptr<TickSource>> StayEngine::ticks() {
    if (file_.empty()) return {ticks_};
    return {std::make_shared<FileTicks>(file_)};
}

absl::StatusOr<MailboxReader> StayEngine::mailbox() {
    return file_.empty() ? MailboxReader::open_process(peer_->pid(), mailbox_)
                         : MailboxReader::open(file_);
}

}  // namespace godwit

#include "dirty-tracking/writeprotect/file_mappings.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "engine/base/unique_fd.h"

namespace godwit {
namespace {

constexpr Bytes kLength = 64 * kPageBytes;

TEST(FileMappings, AreTheSameByQueryAndByText) {
    const UniqueFd file(::memfd_create("mapped", MFD_CLOEXEC));
    ASSERT_EQ(::ftruncate(file.get(), kLength), 0);
    char* const shared = static_cast<char*>(
        ::mmap(nullptr, kLength, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0));
    void* const kept = ::mmap(nullptr, kPageBytes, PROT_READ, MAP_PRIVATE, file.get(), kPageBytes);
    ASSERT_NE(static_cast<void*>(shared), MAP_FAILED);
    ASSERT_NE(kept, MAP_FAILED);
    // Other rights in its middle make three of one.
    ASSERT_EQ(::mprotect(shared + 8 * kPageBytes, 8 * kPageBytes, PROT_READ), 0);

    const auto read = read_file_mappings(::getpid());
    ASSERT_TRUE(read.ok()) << read.status();
    struct stat about {};
    ASSERT_EQ(::fstat(file.get(), &about), 0);
    const auto is_ours = [&](const FileMapping& mapping) { return mapping.inode == about.st_ino; };
    EXPECT_EQ(std::count_if(read->begin(), read->end(), is_ours), 4);

    auto queried = query_file_mappings(::getpid());
    ::munmap(shared, kLength);
    ::munmap(kept, kPageBytes);
    if (absl::IsUnimplemented(queried.status())) GTEST_SKIP() << queried.status();
    ASSERT_TRUE(queried.ok()) << queried.status();
    // What the test itself allocates meanwhile is of no file.
    EXPECT_EQ(*queried, *read);
}

TEST(FileMappings, OfAProcessThatEndedAreNotFound) {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(0);
    siginfo_t about{};
    ASSERT_EQ(::waitid(P_PID, child, &about, WEXITED | WNOWAIT), 0);  // not reaped yet
    EXPECT_TRUE(absl::IsNotFound(read_file_mappings(child).status()));
    EXPECT_TRUE(absl::IsNotFound(file_mappings(child).status()));
    ASSERT_EQ(::waitpid(child, nullptr, 0), child);
    EXPECT_TRUE(absl::IsNotFound(file_mappings(child).status()));
}

}  // namespace
}  // namespace godwit

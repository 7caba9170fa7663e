#include "engine/guest/libvirt/security.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace godwit {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string capabilities(const std::string& models) {
    return "<capabilities><host><cpu/>" + models + "</host></capabilities>";
}
std::string secmodel(const std::string& name) {
    return "<secmodel><model>" + name + "</model><doi>0</doi></secmodel>";
}
std::string confined_domain(const std::string& labels) { return "<domain>" + labels + "</domain>"; }

const std::string kDac = secmodel("dac");
constexpr const char* kDacLabel =
    "<seclabel type='dynamic' model='dac' relabel='yes'><label>+0:+0</label></seclabel>";

TEST(SecurityModels, AreTheHostsThatTheDomainIsNotExemptFrom) {
    const auto models =
        security_models(capabilities(secmodel("apparmor") + kDac),
                        confined_domain(std::string(kDacLabel) +
                                        "<seclabel type='dynamic' model='apparmor' relabel='yes'>"
                                        "<label>libvirt-6f6b1d2e</label></seclabel>"));
    ASSERT_TRUE(models.ok()) << models.status();
    EXPECT_THAT(models->host, ElementsAre("apparmor", "dac"));
    EXPECT_THAT(models->domain, ElementsAre("apparmor", "dac"));
    // A definition says nothing of labels that are given at the start.
    EXPECT_THAT(
        security_models(capabilities(secmodel("selinux") + kDac), confined_domain(""))->domain,
        ElementsAre("selinux", "dac"));
    EXPECT_THAT(security_models(capabilities(secmodel("selinux") + kDac),
                                confined_domain("<seclabel type='none' model='selinux'/>"))
                    ->domain,
                ElementsAre("dac"));
    EXPECT_THAT(security_models(capabilities(secmodel("apparmor") + kDac),
                                confined_domain("<seclabel type='none'/>"))
                    ->domain,
                ElementsAre("dac"));
    EXPECT_THAT(security_models(capabilities(secmodel("none")), confined_domain(""))->host,
                IsEmpty());
}

TEST(SecurityModels, RefuseWhatIsNeither) {
    EXPECT_FALSE(security_models("<host/>", confined_domain("")).ok());
    EXPECT_FALSE(security_models("nonsense", confined_domain("")).ok());
    EXPECT_FALSE(security_models(capabilities(""), "<network/>").ok());
}

TEST(SecurityNotes, SayWhatTheOperatorMustAllow) {
    EXPECT_THAT(security_notes({.host = {"dac"}, .domain = {"dac"}}, ""), IsEmpty());
    EXPECT_THAT(security_notes({.host = {"apparmor"}, .domain = {"apparmor"}}, "/run/ram"),
                ElementsAre(HasSubstr("/run/ram/** rwk"), HasSubstr("was not tried")));
    EXPECT_THAT(security_notes({.host = {"selinux"}, .domain = {"selinux"}}, ""),
                ElementsAre(HasSubstr("svirt_t"), HasSubstr("was not tried")));
    EXPECT_THAT(security_notes({.host = {"selinux"}, .domain = {}}, ""), IsEmpty());
}

}  // namespace
}  // namespace godwit

#include "engine/base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>

#include <memory>
#include <string>

namespace godwit {

bool start_logging(std::string_view program, std::string_view level) {
    auto logger = std::make_shared<spdlog::logger>(
        std::string(program), std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
    logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e %n %^%l%$ %v");
    logger->flush_on(spdlog::level::info);
    spdlog::set_default_logger(std::move(logger));
    if (level != "debug" && level != "info" && level != "warn" && level != "error") return false;
    spdlog::set_level(spdlog::level::from_str(std::string(level)));
    return true;
}

}  // namespace godwit

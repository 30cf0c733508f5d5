//! The rules, one file each, and the list of them all.

mod prelude;
mod shared;

mod absolute_workdir;
mod add_archives;
mod add_without_checksum;
mod apk_no_cache;
mod apt_in_script;
mod apt_lists;
mod apt_recommends;
mod apt_yes;
mod backticks;
mod bad_trigger;
mod bang_skips_errexit;
mod broken_json;
mod build_would_stop;
mod cache_id_platform;
mod cd_in_run;
mod consecutive_run;
mod consistent_instruction_casing;
mod copy_before_install;
mod copy_ignored_file;
mod copy_many_into_folder;
mod copy_not_add;
mod copy_owner;
mod copy_whole_root;
mod curl_to_shell;
mod deaf_stopsignal;
mod directive_typo;
mod dnf_clean;
mod dnf_yes;
mod duplicate_stage_name;
mod early_arg;
mod echo_escapes;
mod env_refers_to_itself;
mod expose_invalid_format;
mod expose_proto_casing;
mod find_xargs;
mod from_as_casing;
mod from_itself;
mod from_platform;
mod from_platform_flag_const_disallowed;
mod healthcheck_missing;
mod heredoc_errexit;
mod invalid_base_image_platform;
mod invalid_default_arg_in_from;
mod invalid_definition_description;
mod json_args_recommended;
mod json_arguments;
mod label_commit;
mod label_email;
mod label_empty;
mod label_key;
mod label_license;
mod label_missing;
mod label_superfluous;
mod label_time;
mod label_url;
mod label_version;
mod last_user_root;
mod latest_tag;
mod leading_glob;
mod legacy_key_value_format;
mod literal_expansion;
mod maintainer_deprecated;
mod masked_status;
mod multiple_instructions_disallowed;
mod needless_escape;
mod no_empty_continuation;
mod no_sudo;
mod pin_apk;
mod pin_apt;
mod pin_dnf;
mod pin_gem;
mod pin_go;
mod pin_npm;
mod pin_pip;
mod pin_yum;
mod pin_zypper;
mod pip_cache;
mod pipefail;
mod pointless_command;
mod port_range;
mod posix_ampersand_redirect;
mod posix_braces;
mod posix_double_bracket;
mod posix_echo_flags;
mod posix_replace;
mod prefer_cache_mount;
mod quote_command;
mod quote_variable;
mod redundant_platform;
mod redundant_target_platform;
mod relative_copy;
mod relinked_shell;
mod reserved_stage_name;
mod run_in_scratch;
mod secret_echo;
mod secret_file;
mod secret_name;
mod secrets_used_in_arg_or_env;
mod several_cmds;
mod several_entrypoints;
mod several_healthchecks;
mod ssh_port;
mod stage_name_casing;
mod starts_without_from;
mod trusted_registry;
mod undefined_arg_in_from;
mod undefined_var;
mod unknown_from;
mod unreachable_stage;
mod untagged_image;
mod unused_suppression;
mod unused_user;
mod unverified_download;
mod user_by_name;
mod useradd_log;
mod wget_and_curl;
mod wget_progress;
mod workdir_relative_path;
mod world_writable;
mod yarn_clean;
mod yum_clean;
mod yum_yes;
mod zypper_clean;
mod zypper_dist_upgrade;
mod zypper_yes;

use crate::rule::Rule;

/// Every rule, in the order of the reference.
pub const RULES: &[&Rule] = &[
    &stage_name_casing::RULE,
    &from_as_casing::RULE,
    &no_empty_continuation::RULE,
    &consistent_instruction_casing::RULE,
    &duplicate_stage_name::RULE,
    &reserved_stage_name::RULE,
    &json_args_recommended::RULE,
    &maintainer_deprecated::RULE,
    &undefined_arg_in_from::RULE,
    &workdir_relative_path::RULE,
    &undefined_var::RULE,
    &multiple_instructions_disallowed::RULE,
    &legacy_key_value_format::RULE,
    &invalid_base_image_platform::RULE,
    &redundant_target_platform::RULE,
    &secrets_used_in_arg_or_env::RULE,
    &invalid_default_arg_in_from::RULE,
    &from_platform_flag_const_disallowed::RULE,
    &copy_ignored_file::RULE,
    &invalid_definition_description::RULE,
    &expose_proto_casing::RULE,
    &expose_invalid_format::RULE,
    &absolute_workdir::RULE,
    &pointless_command::RULE,
    &last_user_root::RULE,
    &cd_in_run::RULE,
    &no_sudo::RULE,
    &untagged_image::RULE,
    &latest_tag::RULE,
    &pin_apt::RULE,
    &apt_lists::RULE,
    &add_archives::RULE,
    &port_range::RULE,
    &several_healthchecks::RULE,
    &pin_pip::RULE,
    &apt_yes::RULE,
    &apt_recommends::RULE,
    &pin_npm::RULE,
    &pin_apk::RULE,
    &apk_no_cache::RULE,
    &copy_not_add::RULE,
    &copy_many_into_folder::RULE,
    &unknown_from::RULE,
    &from_itself::RULE,
    &json_arguments::RULE,
    &trusted_registry::RULE,
    &apt_in_script::RULE,
    &pin_gem::RULE,
    &from_platform::RULE,
    &yum_yes::RULE,
    &yum_clean::RULE,
    &pin_yum::RULE,
    &zypper_yes::RULE,
    &zypper_dist_upgrade::RULE,
    &zypper_clean::RULE,
    &pin_zypper::RULE,
    &dnf_yes::RULE,
    &dnf_clean::RULE,
    &pin_dnf::RULE,
    &pip_cache::RULE,
    &bad_trigger::RULE,
    &env_refers_to_itself::RULE,
    &relative_copy::RULE,
    &useradd_log::RULE,
    &wget_progress::RULE,
    &label_key::RULE,
    &label_missing::RULE,
    &label_superfluous::RULE,
    &label_empty::RULE,
    &label_url::RULE,
    &label_time::RULE,
    &label_license::RULE,
    &label_commit::RULE,
    &label_version::RULE,
    &healthcheck_missing::RULE,
    &label_email::RULE,
    &consecutive_run::RULE,
    &yarn_clean::RULE,
    &starts_without_from::RULE,
    &pin_go::RULE,
    &secret_name::RULE,
    &redundant_platform::RULE,
    &user_by_name::RULE,
    &copy_whole_root::RULE,
    &wget_and_curl::RULE,
    &several_cmds::RULE,
    &several_entrypoints::RULE,
    &relinked_shell::RULE,
    &pipefail::RULE,
    &quote_variable::RULE,
    &quote_command::RULE,
    &masked_status::RULE,
    &literal_expansion::RULE,
    &backticks::RULE,
    &bang_skips_errexit::RULE,
    &posix_braces::RULE,
    &posix_replace::RULE,
    &echo_escapes::RULE,
    &needless_escape::RULE,
    &posix_echo_flags::RULE,
    &leading_glob::RULE,
    &posix_double_bracket::RULE,
    &posix_ampersand_redirect::RULE,
    &find_xargs::RULE,
    &build_would_stop::RULE,
    &unreachable_stage::RULE,
    &run_in_scratch::RULE,
    &directive_typo::RULE,
    &broken_json::RULE,
    &unverified_download::RULE,
    &curl_to_shell::RULE,
    &world_writable::RULE,
    &secret_file::RULE,
    &secret_echo::RULE,
    &copy_before_install::RULE,
    &copy_owner::RULE,
    &unused_user::RULE,
    &prefer_cache_mount::RULE,
    &cache_id_platform::RULE,
    &heredoc_errexit::RULE,
    &early_arg::RULE,
    &deaf_stopsignal::RULE,
    &ssh_port::RULE,
    &add_without_checksum::RULE,
    &unused_suppression::RULE,
];

/// The rule of that name, or the first that has it as an alias.
pub fn find_rule(name: &str) -> Option<&'static Rule> {
    RULES
        .iter()
        .copied()
        .find(|rule| rule.name.eq_ignore_ascii_case(name))
        .or_else(|| RULES.iter().copied().find(|rule| rule.is_called(name)))
}

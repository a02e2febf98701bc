/* Messages for people on stderr. Rank 0 speaks; other ranks only warn, with "[rank N] " before the line.
 * One call is one whole line (a single write), so lines of several ranks do not mix. Thread-safe. */
#pragma once

#ifdef __cplusplus
extern "C" {
#endif

void bif_log_set_rank(int rank);
/* Also append every line to this open file descriptor (the run's log); -1 turns that off. */
void bif_log_set_copy(int fd);
/* True: only warnings. */
void bif_log_set_quiet(int quiet);
void bif_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void bif_warn(const char *format, ...) __attribute__((format(printf, 1, 2))); /* "warning: " before it, on any rank */
/* The same of trouble that all ranks meet alike: rank 0 alone says it. */
void bif_warn_once(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Replaces the current terminal line if stderr is a terminal, else nothing is printed. */
void bif_progress(const char *format, ...) __attribute__((format(printf, 1, 2)));

#ifdef __cplusplus
}
#endif

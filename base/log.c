#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int log_rank;
static int log_copy = -1;
static int log_quiet;
static atomic_bool progress_shown;

void bif_log_set_rank(int rank)
{
    log_rank = rank;
}

void bif_log_set_copy(int fd)
{
    log_copy = fd;
}

void bif_log_set_quiet(int quiet)
{
    log_quiet = quiet;
}

static void write_all(int fd, const char *text, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, text, size);
        if (n <= 0) {
            return;
        }
        text += n;
        size -= (size_t)n;
    }
}

static void line(const char *prefix, const char *format, va_list args)
{
    char text[4608];
    size_t used = 0;
    if (atomic_exchange(&progress_shown, false)) {
        used += (size_t)snprintf(text, sizeof text, "\r\033[K");
    }
    size_t start = used;
    if (log_rank > 0) {
        used += (size_t)snprintf(text + used, sizeof text - used, "[rank %d] ", log_rank);
    }
    used += (size_t)snprintf(text + used, sizeof text - used, "%s", prefix);
    int n = vsnprintf(text + used, sizeof text - used - 1, format, args);
    used += n < 0 ? 0 : (size_t)n;
    if (used > sizeof text - 2) {
        used = sizeof text - 2;
    }
    text[used++] = '\n';
    write_all(STDERR_FILENO, text, used);
    if (log_copy >= 0) {
        write_all(log_copy, text + start, used - start);
    }
}

void bif_info(const char *format, ...)
{
    if (log_rank > 0 || log_quiet) {
        return;
    }
    va_list args;
    va_start(args, format);
    line("", format, args);
    va_end(args);
}

void bif_warn(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    line("warning: ", format, args);
    va_end(args);
}

void bif_warn_once(const char *format, ...)
{
    if (log_rank > 0) {
        return;
    }
    va_list args;
    va_start(args, format);
    line("warning: ", format, args);
    va_end(args);
}

void bif_progress(const char *format, ...)
{
    const char *term = getenv("TERM");
    if (log_rank > 0 || log_quiet || !isatty(STDERR_FILENO) || (term != NULL && strcmp(term, "dumb") == 0)) {
        return;
    }
    char text[512];
    int used = snprintf(text, sizeof text, "\r\033[K");
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text + used, sizeof text - (size_t)used, format, args);
    va_end(args);
    size_t size = (size_t)used + (n < 0 ? 0 : (size_t)n);
    write_all(STDERR_FILENO, text, size < sizeof text ? size : sizeof text - 1);
    atomic_store(&progress_shown, true);
}

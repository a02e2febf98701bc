#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local char message[4096];

bif_status bif_fail(bif_status code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    return code;
}

bif_status bif_fail_context(bif_status code, const char *format, ...)
{
    char old[sizeof message];
    memcpy(old, message, sizeof old);
    va_list args;
    va_start(args, format);
    int n = vsnprintf(message, sizeof message, format, args);
    va_end(args);
    size_t used = n < 0 ? 0 : (size_t)n;
    if (used + 3 < sizeof message) {
        snprintf(message + used, sizeof message - used, ": %.*s", (int)(sizeof message - used - 3), old);
    }
    return code;
}

const char *bif_error_message(void)
{
    return message;
}

void bif_error_clear(void)
{
    message[0] = '\0';
}

void bif_bug(const char *file, int line, const char *format, ...)
{
    fprintf(stderr, "bifocal: internal error at %s:%d: ", file, line);
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "\nThis is a bug in bifocal; please report it with the command line and this message.\n");
    abort();
}

bool bif_mul_i64(int64_t a, int64_t b, int64_t *out)
{
    return a >= 0 && b >= 0 && !__builtin_mul_overflow(a, b, out);
}

static void *or_die(void *memory, size_t size)
{
    if (memory == NULL && size > 0) {
        fprintf(stderr, "bifocal: out of memory while asking for %zu bytes\n", size);
        _Exit(BIF_ERR_MEMORY);
    }
    return memory;
}

void *bif_malloc(size_t size)
{
    return or_die(malloc(size ? size : 1), size);
}

void *bif_calloc(size_t count, size_t size)
{
    size_t bytes = 0;
    if (__builtin_mul_overflow(count, size, &bytes)) {
        bytes = SIZE_MAX;
    }
    return or_die(calloc(count ? count : 1, size ? size : 1), bytes);
}

void *bif_realloc(void *old, size_t count, size_t size)
{
    size_t bytes = 0;
    if (__builtin_mul_overflow(count, size, &bytes)) {
        bytes = SIZE_MAX;
    }
    return or_die(realloc(old, bytes ? bytes : 1), bytes);
}

char *bif_strdup(const char *text)
{
    size_t n = strlen(text) + 1;
    return memcpy(bif_malloc(n), text, n);
}

char *bif_format(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    BIF_BUG_IF(n < 0, "bad format string '%s'", format);
    char *text = bif_malloc((size_t)n + 1);
    va_start(args, format);
    vsnprintf(text, (size_t)n + 1, format, args);
    va_end(args);
    return text;
}

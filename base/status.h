/* Errors are values: a function that can fail returns a bif_status, and the text is recorded once, where the failure was
 * first seen. The message of the current thread stays readable until the next bif_fail on that thread.
 *
 * The status is also the exit code of the program (launch/main.c), so these numbers are documented and stable.
 *
 *   bif_status f(void) {
 *       bif_status st = BIF_OK;
 *       BIF_TRY(g());
 *   done:
 *       cleanup();
 *       return st;
 *   }
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    BIF_OK = 0,
    BIF_ERR_USAGE = 64,   /* wrong command line */
    BIF_ERR_DATA = 65,    /* a file or record is not what it should be */
    BIF_ERR_BUG = 70,     /* a promise inside bifocal was broken */
    BIF_ERR_MEMORY = 71,  /* out of memory, or a plan that does not fit */
    BIF_ERR_IO = 74,      /* the system refused: missing file, disk full, permission */
    BIF_ERR_STOPPED = 75, /* stopped early; running the same command again resumes */
    BIF_ERR_CONFIG = 78,  /* wrong configuration */
} bif_status;

/* Records the message (printf format, one sentence: what, where, what to do) and returns `code`. Thread-local. */
bif_status bif_fail(bif_status code, const char *format, ...) __attribute__((format(printf, 2, 3), cold));

/* Puts "context: " before the recorded message (for example a file name known only further up); returns `code`. */
bif_status bif_fail_context(bif_status code, const char *format, ...) __attribute__((format(printf, 2, 3), cold));

/* The message of this thread's last failure; "" if there was none. Never NULL. */
const char *bif_error_message(void);
void bif_error_clear(void);

/* Passes a failure up; needs a local `bif_status st` and a label `done`. */
#define BIF_TRY(call)                      \
    do {                                   \
        if ((st = (call)) != BIF_OK) {     \
            goto done;                     \
        }                                  \
    } while (0)

/* A programmer's error, never a user's: prints file, line and text, then aborts. Always on. */
#define BIF_BUG_IF(condition, ...)                          \
    do {                                                    \
        if (__builtin_expect(!!(condition), 0)) {           \
            bif_bug(__FILE__, __LINE__, __VA_ARGS__);       \
        }                                                   \
    } while (0)
__attribute__((noreturn)) void bif_bug(const char *file, int line, const char *format, ...) __attribute__((format(printf, 3, 4), cold));

/* Checked 64-bit size arithmetic; false on overflow or a negative operand. */
bool bif_mul_i64(int64_t a, int64_t b, int64_t *out);

/* malloc/calloc/realloc that never return NULL: out of memory ends the program with exit code 71 and a message naming
 * the size. For small bookkeeping only; sizes that come from input are checked before. count*size is overflow-checked. */
void *bif_malloc(size_t size);
void *bif_calloc(size_t count, size_t size);
void *bif_realloc(void *old, size_t count, size_t size);
char *bif_strdup(const char *text);
char *bif_format(const char *format, ...) __attribute__((format(printf, 1, 2))); /* malloc'ed string; caller frees */

#ifdef __cplusplus
}
#endif

#include <criterion/criterion.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/status.h"

Test(status, message_and_context)
{
    cr_expect_str_eq(bif_error_message(), "");
    cr_expect_eq(bif_fail(BIF_ERR_DATA, "row %d is bad", 3), BIF_ERR_DATA);
    cr_expect_eq(bif_fail_context(BIF_ERR_DATA, "file %s", "x"), BIF_ERR_DATA);
    cr_expect_str_eq(bif_error_message(), "file x: row 3 is bad");
    bif_error_clear();
    cr_expect_str_eq(bif_error_message(), "");
}

Test(status, long_messages_are_cut)
{
    char *text = bif_malloc(10000);
    memset(text, 'x', 9999);
    text[9999] = '\0';
    bif_fail(BIF_ERR_DATA, "%s", text);
    cr_expect_lt(strlen(bif_error_message()), 4096);
    bif_fail_context(BIF_ERR_DATA, "%s", text);
    cr_expect_lt(strlen(bif_error_message()), 4096);
    free(text);
}

static void *other_thread(void *unused)
{
    (void)unused;
    bif_fail(BIF_ERR_IO, "other");
    return NULL;
}

Test(status, message_is_of_the_thread)
{
    pthread_t thread;
    bif_fail(BIF_ERR_DATA, "mine");
    pthread_create(&thread, NULL, other_thread, NULL);
    pthread_join(thread, NULL);
    cr_expect_str_eq(bif_error_message(), "mine");
}

static bif_status tried(bool fail, int *cleaned)
{
    bif_status st = BIF_OK;
    BIF_TRY(fail ? BIF_ERR_CONFIG : BIF_OK);
    st = BIF_ERR_STOPPED;
done:
    ++*cleaned;
    return st;
}

Test(status, try)
{
    int cleaned = 0;
    cr_expect_eq(tried(true, &cleaned), BIF_ERR_CONFIG);
    cr_expect_eq(tried(false, &cleaned), BIF_ERR_STOPPED);
    cr_expect_eq(cleaned, 2);
}

Test(status, sizes)
{
    int64_t out = 0;
    cr_expect(bif_mul_i64(3, 5, &out) && out == 15);
    cr_expect_not(bif_mul_i64(INT64_MAX / 2, 3, &out));
    cr_expect_not(bif_mul_i64(-1, 3, &out));
}

Test(status, bug_aborts, .signal = SIGABRT)
{
    BIF_BUG_IF(1 + 1 == 2, "on purpose");
}

Test(status, format)
{
    char *text = bif_format("%s-%05d", "a", 42);
    cr_expect_str_eq(text, "a-00042");
    free(text);
}

static void *layout(bif_arena *arena)
{
    bif_arena_take(arena, 1);
    size_t mark = bif_arena_mark(arena);
    bif_arena_take(arena, 1000);
    bif_arena_release(arena, mark);
    return bif_arena_take(arena, 64);
}

Test(arena, measure_then_use)
{
    bif_arena measure = bif_arena_measure("test");
    cr_expect_null(layout(&measure));
    cr_expect_eq(measure.peak, 64 + 1024);
    void *memory = aligned_alloc(64, measure.peak);
    bif_arena real = bif_arena_over("test", memory, measure.peak);
    cr_expect_eq(layout(&real), (char *)memory + 64);
    cr_expect_eq(real.used, measure.used);
    cr_expect_eq(real.peak, measure.peak);
    free(memory);
}

Test(arena, full_is_a_bug, .signal = SIGABRT)
{
    void *memory = aligned_alloc(64, 128);
    bif_arena arena = bif_arena_over("test", memory, 128);
    bif_arena_take(&arena, 129);
}

Test(arena, misaligned_is_a_bug, .signal = SIGABRT)
{
    _Alignas(64) static char memory[128];
    bif_arena_over("test", memory + 1, 64);
}

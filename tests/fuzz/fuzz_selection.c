/* libFuzzer: a header of a selection, a zero byte and records, put together as a file whose length and digests are right, so that what is behind them is
 * reached; the bytes as they are, as a selection too; and anything that does not begin like JSON as a list of uids. */
#include <jansson.h>

#include "data/selection.h"
#include "data/uids.h"
#include "fuzz.h"

/* Gives every step the digest of its records. malloc'ed; NULL: no such header. */
static char *right_digests(fuzz_part header, const char *records, size_t size)
{
    json_t *value = json_loadb(header.data, header.size, 0, NULL), *steps = json_object_get(value, "steps"), *step;
    size_t i;
    json_array_foreach(steps, i, step) {
        const json_int_t count = json_integer_value(json_object_get(step, "records"));
        char hex[33];
        if (!json_is_object(step) || count < 0 || (uint64_t)count > size / sizeof(bif_drop)) {
            break;
        }
        bif_digest_bytes(records, (size_t)count * sizeof(bif_drop), hex);
        json_object_set_new(step, "xxh3", json_string(hex));
        records += (size_t)count * sizeof(bif_drop);
        size -= (size_t)count * sizeof(bif_drop);
    }
    char *text = value != NULL ? json_dumps(value, JSON_INDENT(1)) : NULL;
    json_decref(value);
    return text;
}

static void use(const char *path)
{
    bif_selection *s = NULL;
    char hex[33];
    int64_t kept = 0, dropped = 0;
    if (bif_selection_read(path, &s) != BIF_OK) {
        fuzz_named("/proc/self/fd");
        return;
    }
    const uint16_t *times = bif_selection_times(s);
    for (int64_t i = 0; i < bif_selection_samples(s); i++) {
        kept += times[i];
    }
    BIF_BUG_IF(kept != bif_selection_kept(s), "kept samples");
    for (int64_t i = 0; i < bif_selection_steps(s); i++) {
        const bif_selection_step step = bif_selection_get(s, i);
        for (int64_t k = 0; k < step.count; k++) {
            BIF_BUG_IF(bif_selection_find(s, i, (int64_t)step.records[k].sample) != &step.records[k], "a record is not found");
            dropped += strlen(step.reason[step.records[k].reason]) > 0;
        }
    }
    bif_selection_digest(s, hex);
    BIF_BUG_IF(bif_selection_undo(s, bif_selection_steps(s)) != BIF_OK || bif_selection_kept(s) != bif_selection_samples(s) || dropped < 0, "undo");
    bif_selection_free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || data[0] != '{') {
        bif_uid *uids = NULL;
        int64_t count = 0;
        use(fuzz_file(data, size));
        if (bif_uids_read(fuzz_file(data, size), &uids, &count) == BIF_OK) {
            for (int64_t i = 1; i < count; i++) {
                BIF_BUG_IF(bif_uid_compare(&uids[i - 1], &uids[i]) > 0, "uids are not sorted");
            }
        } else {
            fuzz_named("/proc/self/fd");
        }
        free(uids);
        return 0;
    }
    const fuzz_part header = fuzz_next(&data, &size);
    char *text = right_digests(header, (const char *)data, size);
    if (text == NULL) {
        return 0;
    }
    const uint64_t length = strlen(text);
    const size_t at = (16 + (size_t)length + 63) / 64 * 64;
    char *file = bif_calloc(at + size, 1);
    memcpy(file, "BIFSEL01", 8);
    memcpy(file + 8, &length, 8);
    memcpy(file + 16, text, (size_t)length);
    memcpy(file + at, data, size);
    use(fuzz_file(file, at + size));
    free(file);
    free(text);
    return 0;
}

#include "train/checkpoint_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "train/safetensors.h"

#define MANIFEST_CAP ((size_t)64 << 20)
#define MANIFEST_FORMAT "bifocal checkpoint"
#define MANIFEST_VERSION 1
#define WORLD_CAP 1000000

/* ---- moments ---- */

char *bif_moments_name(int64_t rank, int64_t world)
{
    return bif_format("trainer/optimizer-%04" PRId64 "-of-%04" PRId64 ".safetensors", rank, world);
}

/* The part of parameter p that lies in [first, first + count) of the flat space, in elements of p. False if none does. */
static bool extent_of(const bif_param *p, int64_t first, int64_t count, int64_t *begin, int64_t *length)
{
    if (!p->trainable) {
        return false;
    }
    const int64_t end = p->offset + bif_numel(&p->value);
    const int64_t from = p->offset > first ? p->offset : first, to = end < first + count ? end : first + count;
    *begin = from - p->offset;
    *length = to - from;
    return to > from;
}

/* What a rank keeps of a parameter, tensor by tensor. */
typedef struct {
    const char *prefix;
    bif_dtype dtype;
    char *data; /* [count] of the rank's part, device memory; NULL = not kept */
} kept;
enum { KEPT = 3 };

static void list_kept(const bif_moments *moments, kept list[KEPT])
{
    list[0] = (kept){"m", BIF_DTYPE_F32, (char *)moments->m};
    list[1] = (kept){"v", BIF_DTYPE_F32, (char *)moments->v};
    list[2] = (kept){"low", BIF_DTYPE_U16, (char *)moments->low};
}

bif_status bif_moments_write(const char *folder, const char *name, bif_device *device, const bif_params *params,
                             const bif_moments *moments, char digest[33], uint64_t *bytes)
{
    const size_t cap = (size_t)params->count;
    bif_st_out *out = bif_calloc(KEPT * cap + 1, sizeof(*out));
    char **names = bif_calloc(KEPT * cap + 1, sizeof(*names));
    char **pairs = bif_calloc(2 * cap + 1, sizeof(*pairs));
    size_t count = 0, texts = 0;
    kept list[KEPT];
    list_kept(moments, list);
    for (int64_t i = 0; i < params->count; i++) {
        const bif_param *p = &params->items[i];
        int64_t begin = 0, length = 0;
        if (!extent_of(p, moments->offset, moments->count, &begin, &length)) {
            continue;
        }
        const int64_t at = p->offset + begin - moments->offset;
        bif_device *from = device->kind == BIF_DEVICE_CPU ? NULL : device;
        pairs[texts++] = bif_strdup(p->name);
        pairs[texts++] = bif_format("%" PRId64 ",%" PRId64, begin, length);
        for (int k = 0; k < KEPT; k++) {
            if (list[k].data != NULL) {
                names[count] = bif_format("%s.%s", list[k].prefix, p->name);
                char *data = list[k].data + (size_t)at * bif_dtype_size(list[k].dtype);
                out[count] = (bif_st_out){names[count], bif_tensor1(data, list[k].dtype, length), from};
                count++;
            }
        }
    }
    char *path = bif_path_join(folder, name);
    bif_status st = bif_safetensors_write(path, out, (int64_t)count, (const char *const *)pairs, digest, bytes);
    for (size_t i = 0; i < count; i++) {
        free(names[i]);
    }
    for (size_t i = 0; i < texts; i++) {
        free(pairs[i]);
    }
    free(path);
    free(names);
    free(pairs);
    free(out);
    return st;
}

/* Copies what this file has of [begin, begin + length) of parameter p, of all that is kept; *covered counts elements. */
static bif_status read_extent(const bif_safetensors *set, const char *path, bif_device *device, const bif_param *p, int64_t begin,
                              int64_t length, const bif_moments *moments, int64_t *covered)
{
    const char *text = bif_safetensors_metadata(set, p->name);
    if (text == NULL) {
        return BIF_OK;
    }
    int64_t from = 0, count = 0;
    int used = 0;
    if (sscanf(text, "%" SCNd64 ",%" SCNd64 "%n", &from, &count, &used) != 2 || text[used] != '\0' || from < 0 || count < 1 ||
        count > bif_numel(&p->value) || from > bif_numel(&p->value) - count) {
        return bif_fail(BIF_ERR_DATA, "%s: extent '%.40s' of %s does not fit the parameter", path, text, p->name);
    }
    const int64_t first = from > begin ? from : begin;
    const int64_t last = from + count < begin + length ? from + count : begin + length;
    kept list[KEPT];
    list_kept(moments, list);
    for (int k = 0; k < KEPT; k++) {
        if (list[k].data == NULL) {
            continue;
        }
        const size_t size = bif_dtype_size(list[k].dtype);
        char *name = bif_format("%s.%s", list[k].prefix, p->name);
        const bif_st_entry *entry = bif_safetensors_find(set, name);
        free(name);
        if (entry == NULL || entry->dtype != list[k].dtype || entry->rank != 1 || entry->dim[0] != count) {
            return bif_fail(BIF_ERR_DATA, "%s: %s.%s is missing or is not %s [%" PRId64 "]", path, list[k].prefix, p->name,
                            bif_dtype_name(list[k].dtype), count);
        }
        if (last > first) {
            device->copy_in(device, list[k].data + (size_t)(p->offset + first - moments->offset) * size,
                            (const char *)entry->data + (size_t)(first - from) * size, (size_t)(last - first) * size);
        }
    }
    *covered += last > first ? last - first : 0;
    return BIF_OK;
}

bif_status bif_moments_read(const char *folder, int64_t world, bif_device *device, const bif_params *params, bif_moments *moments)
{
    bif_status st = BIF_OK;
    int64_t *covered = bif_calloc((size_t)params->count + 1, sizeof(*covered));
    bif_safetensors *set = NULL;
    char *path = NULL;
    kept list[KEPT];
    list_kept(moments, list);
    for (int k = 0; k < KEPT; k++) { /* padding and what no file covers must not keep old values */
        if (list[k].data != NULL && moments->count > 0) {
            device->zero(device, list[k].data, (size_t)moments->count * bif_dtype_size(list[k].dtype));
        }
    }
    for (int64_t r = 0; r < world; r++) {
        char *name = bif_moments_name(r, world);
        path = bif_path_join(folder, name);
        free(name);
        BIF_TRY(bif_safetensors_open(path, &set));
        for (int64_t i = 0; i < params->count; i++) {
            int64_t begin = 0, length = 0;
            if (extent_of(&params->items[i], moments->offset, moments->count, &begin, &length)) {
                BIF_TRY(read_extent(set, path, device, &params->items[i], begin, length, moments, &covered[i]));
            }
        }
        bif_safetensors_close(set);
        set = NULL;
        free(path);
        path = NULL;
    }
    for (int64_t i = 0; i < params->count; i++) {
        int64_t begin = 0, length = 0;
        if (extent_of(&params->items[i], moments->offset, moments->count, &begin, &length) && covered[i] != length) {
            st = bif_fail(BIF_ERR_DATA,
                          "%s: moments of %s are there for %" PRId64 " of %" PRId64 " elements; was another part of the model trained?", folder,
                          params->items[i].name, covered[i], length);
            goto done;
        }
    }
done:
    bif_safetensors_close(set);
    free(path);
    free(covered);
    return st;
}

/* ---- state ---- */

bif_status bif_run_state_write(const char *folder, const bif_run_state *state, bif_dtype dtype, int world)
{
    char seed[24];
    snprintf(seed, sizeof seed, "%" PRIu64, state->seed); /* as text: JSON readers elsewhere keep 53 bits */
    json_t *o = json_pack("{s:i, s:I, s:s, s:i, s:s, s:s, s:I, s:I, s:I, s:s}", "version", 1, "step", (json_int_t)state->step, "seed", seed,
                          "world", world, "config_digest", state->config_digest, "data_digest", state->data_digest, "metrics_bytes",
                          (json_int_t)state->metrics_bytes, "skipped", (json_int_t)state->skipped, "bad_steps",
                          (json_int_t)state->bad_steps, "precision", bif_precision_name(dtype));
    BIF_BUG_IF(o == NULL, "state.json does not encode");
    if (state->frozen_digest[0] != '\0') {
        json_object_set_new(o, "frozen_digest", json_string(state->frozen_digest));
    }
    if (state->best_step > 0) {
        json_object_set_new(o, "best", json_pack("{s:I, s:f, s:s}", "step", (json_int_t)state->best_step, "score", state->best_score, "of",
                                                 state->best_of));
    }
    char *path = bif_path_join(folder, "trainer/state.json");
    bif_status st = bif_json_save_file(path, o);
    free(path);
    json_decref(o);
    return st;
}

static bif_status digest_text(const char *where, const json_t *o, const char *key, bool required, char out[33])
{
    const char *text = "";
    bif_status st = bif_json_string(where, o, key, required, &text);
    if (st == BIF_OK && strlen(text) > 32) {
        st = bif_fail(BIF_ERR_DATA, "%s: '%s' is not a digest", where, key);
    }
    if (st == BIF_OK) {
        snprintf(out, 33, "%s", text);
    }
    return st;
}

bif_status bif_run_state_read(const char *folder, bif_run_state *state, int64_t *world)
{
    bif_status st = BIF_OK;
    json_t *o = NULL;
    const char *seed = NULL, *precision = "fp32"; /* what a state without it was */
    char *end = NULL;
    int64_t version = 0;
    bif_run_state read = {0};
    char *path = bif_path_join(folder, "trainer/state.json");
    BIF_TRY(bif_json_load_file(path, MANIFEST_CAP, &o));
    BIF_TRY(bif_json_i64(path, o, "version", true, &version));
    BIF_TRY(bif_json_i64(path, o, "step", true, &read.step));
    BIF_TRY(bif_json_i64(path, o, "world", true, world));
    BIF_TRY(bif_json_i64(path, o, "metrics_bytes", true, &read.metrics_bytes));
    BIF_TRY(bif_json_i64(path, o, "skipped", true, &read.skipped));
    BIF_TRY(bif_json_i64(path, o, "bad_steps", false, &read.bad_steps));
    BIF_TRY(bif_json_string(path, o, "seed", true, &seed));
    BIF_TRY(bif_json_string(path, o, "precision", false, &precision));
    BIF_TRY(digest_text(path, o, "config_digest", true, read.config_digest));
    BIF_TRY(digest_text(path, o, "data_digest", true, read.data_digest));
    BIF_TRY(digest_text(path, o, "frozen_digest", false, read.frozen_digest));
    json_t *best = json_object_get(o, "best");
    if (best != NULL) {
        BIF_TRY(bif_json_i64(path, best, "step", true, &read.best_step));
        BIF_TRY(bif_json_f64(path, best, "score", true, &read.best_score));
        BIF_TRY(digest_text(path, best, "of", true, read.best_of));
    }
    read.seed = strtoull(seed, &end, 10);
    read.dtype = strcmp(precision, "bf16") == 0 ? BIF_DTYPE_BF16 : BIF_DTYPE_F32;
    if (version != 1 || read.step < 0 || read.best_step < 0 || read.best_step > read.step || *world < 1 || *world > WORLD_CAP || read.metrics_bytes < 0 || *end != '\0' || end == seed ||
        strcmp(precision, bif_precision_name(read.dtype)) != 0) {
        st = bif_fail(BIF_ERR_DATA, "%s: version, step, world, seed, metrics_bytes or precision is impossible", path);
        goto done;
    }
    *state = read;
done:
    json_decref(o);
    free(path);
    return st;
}

/* ---- manifest ---- */

/* Digest of everything but the digest itself, in one agreed form. */
static void body_digest(const json_t *manifest, char hex[33])
{
    char *text = json_dumps(manifest, JSON_COMPACT | JSON_SORT_KEYS);
    BIF_BUG_IF(text == NULL, "a manifest does not encode");
    bif_digest_bytes(text, strlen(text), hex);
    free(text);
}

bif_status bif_manifest_write(const char *folder, int64_t step, json_t *files)
{
    char hex[33];
    json_t *o = json_pack("{s:s, s:i, s:I, s:o}", "format", MANIFEST_FORMAT, "version", MANIFEST_VERSION, "step", (json_int_t)step, "files", files);
    BIF_BUG_IF(o == NULL, "a manifest does not encode");
    body_digest(o, hex);
    json_object_set_new(o, "digest", json_string(hex));
    char *path = bif_path_join(folder, "MANIFEST.json");
    bif_status st = bif_json_save_file(path, o);
    free(path);
    json_decref(o);
    return st;
}

static bif_status verify_file(int root, const char *folder, const json_t *entry)
{
    bif_status st = BIF_OK;
    const char *name = NULL, *want = NULL;
    int64_t bytes = 0;
    int fd = -1;
    size_t size = 0, got = 0;
    char hex[33];
    bif_digest *digest = NULL;
    char *buffer = NULL;
    BIF_TRY(bif_json_string(folder, entry, "name", true, &name));
    BIF_TRY(bif_json_string(folder, entry, "digest", true, &want));
    BIF_TRY(bif_json_i64(folder, entry, "bytes", true, &bytes));
    BIF_TRY(bif_open_beneath(root, folder, name, &fd, &size));
    if (bytes < 0 || size != (size_t)bytes) {
        st = bif_fail(BIF_ERR_DATA, "%s/%s has %zu bytes, its manifest says %" PRId64, folder, name, size, bytes);
        goto done;
    }
    buffer = bif_malloc((size_t)1 << 20);
    digest = bif_digest_new();
    do {
        BIF_TRY(bif_read_some(fd, name, buffer, (size_t)1 << 20, &got));
        bif_digest_update(digest, buffer, got);
    } while (got > 0);
    bif_digest_finish(digest, hex);
    digest = NULL;
    if (strcmp(hex, want) != 0) {
        st = bif_fail(BIF_ERR_DATA, "%s/%s is damaged: its digest is %s, its manifest says %s", folder, name, hex, want);
    }
done:
    if (digest != NULL) {
        bif_digest_finish(digest, hex);
    }
    if (fd >= 0) {
        close(fd);
    }
    free(buffer);
    return st;
}

bif_status bif_checkpoint_verify(const char *path)
{
    bif_status st = BIF_OK;
    json_t *o = NULL;
    const char *format = "", *digest = NULL;
    char hex[33], want[33] = "";
    int64_t version = 0;
    int root = -1;
    char *file = bif_path_join(path, "MANIFEST.json");
    BIF_TRY(bif_json_load_file(file, MANIFEST_CAP, &o));
    BIF_TRY(bif_json_string(file, o, "format", true, &format));
    BIF_TRY(bif_json_i64(file, o, "version", true, &version));
    BIF_TRY(bif_json_string(file, o, "digest", true, &digest));
    if (strcmp(format, MANIFEST_FORMAT) != 0 || version != MANIFEST_VERSION) {
        st = bif_fail(BIF_ERR_DATA, "%s: format '%.40s' version %" PRId64 "; '%s' version %d is read", file, format, version, MANIFEST_FORMAT,
                      MANIFEST_VERSION);
        goto done;
    }
    snprintf(want, sizeof want, "%s", digest);
    json_object_del(o, "digest");
    body_digest(o, hex);
    if (strcmp(hex, want) != 0) {
        st = bif_fail(BIF_ERR_DATA, "%s is damaged: its own digest does not match", file);
        goto done;
    }
    root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0) {
        st = bif_fail(BIF_ERR_IO, "cannot open '%s': %s", path, strerror(errno));
        goto done;
    }
    const json_t *files = json_object_get(o, "files");
    if (!json_is_array(files) || json_array_size(files) == 0) {
        st = bif_fail(BIF_ERR_DATA, "%s: 'files' must be a list", file);
        goto done;
    }
    for (size_t i = 0; i < json_array_size(files); i++) {
        BIF_TRY(verify_file(root, path, json_array_get(files, i)));
    }
done:
    if (root >= 0) {
        close(root);
    }
    json_decref(o);
    free(file);
    return st;
}

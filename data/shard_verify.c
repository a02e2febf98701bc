#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/utf8.h"
#include "data/shard_internal.h"

#define SHOWN 20
#define BLOCK ((uint64_t)1 << 20)

/* Records that failed; the first SHOWN are named. */
static void report(int64_t *bad)
{
    if (++*bad <= SHOWN) {
        bif_warn("%s", bif_error_message());
    } else if (*bad == SHOWN + 1) {
        bif_warn("further bad records are only counted");
    }
}

static bif_status check_image(const bif_shard *shard, int64_t index, char **buffer, size_t *capacity)
{
    bif_shard_image image;
    bif_status st = bif_shard_get_image(shard, index, &image);
    if (st != BIF_OK) {
        return st;
    }
    if (image.size > *capacity) {
        free(*buffer);
        *capacity = 0;
        *buffer = malloc(image.size);
        if (*buffer == NULL) {
            return bif_fail(BIF_ERR_MEMORY, "out of memory for image %lld of shard '%s' (%llu bytes)", (long long)index, shard->path,
                            (unsigned long long)image.size);
        }
        *capacity = image.size;
    }
    st = bif_shard_read_image(shard, index, *buffer, *capacity);
    if (st != BIF_OK) {
        return st;
    }
    XXH128_hash_t hash = XXH3_128bits(*buffer, image.size);
    if (hash.high64 != image.id[0] || hash.low64 != image.id[1]) {
        return bif_fail(BIF_ERR_DATA, "shard '%s', image %lld: bytes do not match their id", shard->path, (long long)index);
    }
    if (image.size == 0 || image.format == BIF_IMAGE_UNKNOWN || image.width == 0 || image.height == 0) {
        return bif_fail(BIF_ERR_DATA, "shard '%s', image %lld: no bytes, unknown format or no size", shard->path, (long long)index);
    }
    return BIF_OK;
}

bif_status bif_shard_check_text(const bif_shard *shard, int64_t index)
{
    bif_shard_sample sample;
    json_t *value = NULL;
    bif_status st = bif_shard_get_sample(shard, index, &sample);
    if (st != BIF_OK) {
        return st;
    }
    char *where = bif_format("shard '%s', sample %lld", shard->path, (long long)index);
    size_t valid = bif_utf8_check(sample.text, sample.text_size);
    if (valid != sample.text_size) {
        st = bif_fail(BIF_ERR_DATA, "%s: not valid UTF-8 at byte %zu", where, valid);
        goto done;
    }
    BIF_TRY(bif_json_parse(where, sample.text, sample.text_size, &value));
    if (!json_is_string(json_object_get(value, "caption")) && !json_is_array(json_object_get(value, "conversations"))) {
        st = bif_fail(BIF_ERR_DATA, "%s: neither a caption nor conversations", where);
    }
done:
    json_decref(value);
    free(where);
    return st;
}

static bif_status check_digest(const bif_shard *shard)
{
    bif_status st = BIF_OK;
    char hex[33], *block = bif_malloc(BLOCK);
    bif_digest *digest = bif_digest_new();
    uint64_t total = shard->column[BIF_TABLE_IMAGE_BYTES].rows;
    for (uint64_t at = 0; at < total && st == BIF_OK; at += BLOCK) {
        size_t size = (size_t)(total - at < BLOCK ? total - at : BLOCK);
        st = bif_shard_read_bytes(shard, at, block, size);
        if (st == BIF_OK) {
            bif_digest_update(digest, block, size);
        }
    }
    for (int which = BIF_TABLE_IMAGE_OFFSET; which < BIF_TABLES; which++) {
        const bif_table_info *info = &bif_tables[which];
        bif_digest_update(digest, shard->column[which].data, shard->column[which].rows * info->width * info->per_row);
    }
    bif_digest_finish(digest, hex);
    free(block);
    if (st == BIF_OK && strcmp(hex, shard->digest) != 0) {
        st = bif_fail(BIF_ERR_DATA, "shard '%s': its bytes have the digest %s, not %s as written in it", shard->path, hex, shard->digest);
    }
    return st;
}

bif_status bif_shard_verify(const char *path, int64_t *bad)
{
    bif_status st = BIF_OK;
    bif_shard *shard = NULL;
    char *buffer = NULL;
    size_t capacity = 0;
    *bad = 0;
    BIF_TRY(bif_shard_open(path, &shard));
    for (int64_t i = 0; i < bif_shard_images(shard); i++) {
        st = check_image(shard, i, &buffer, &capacity);
        if (st == BIF_ERR_DATA) {
            report(bad);
        } else if (st != BIF_OK) {
            goto done;
        }
    }
    for (int64_t i = 0; i < bif_shard_samples(shard); i++) {
        if (bif_shard_check_text(shard, i) != BIF_OK) {
            report(bad);
        }
    }
    st = check_digest(shard);
    if (st == BIF_ERR_DATA && *bad == 0) {
        report(bad); /* padding or a table: no single record is to blame */
    } else if (st != BIF_OK && st != BIF_ERR_DATA) {
        goto done;
    }
    st = BIF_OK;
    if (*bad > 0) {
        st = bif_fail(BIF_ERR_DATA, "shard '%s': %lld bad records", path, (long long)*bad);
    }
done:
    free(buffer);
    bif_shard_close(shard);
    return st;
}

/* What the shards of a prefix hold already, as a set of 128-bit digests, 32 bytes of memory a sample. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "data/pack_parts.h"

struct bif_pack_known {
    XXH128_hash_t *slot; /* both halves 0 = free */
    size_t slots, used;
};

static void hash_part(XXH3_state_t *state, const void *bytes, size_t size)
{
    const uint64_t length = size;
    XXH3_128bits_update(state, &length, sizeof length);
    XXH3_128bits_update(state, bytes, size);
}

/* Source, id and text; of a sample without an id also its pictures' ids (two words each). */
static XXH128_hash_t digest(const char *source, const char *id, size_t id_size, const char *text, size_t text_size, const uint64_t *images,
                            int64_t image_count)
{
    XXH3_state_t *state = XXH3_createState();
    XXH3_128bits_reset(state);
    hash_part(state, source, strlen(source));
    hash_part(state, id, id_size);
    hash_part(state, text, text_size);
    if (id_size == 0) {
        hash_part(state, images, (size_t)image_count * 16);
    }
    XXH128_hash_t hash = XXH3_128bits_digest(state);
    XXH3_freeState(state);
    hash.low64 += hash.low64 == 0; /* 0 marks a free slot */
    return hash;
}

static size_t find(const bif_pack_known *known, XXH128_hash_t hash)
{
    size_t at = (size_t)hash.low64 & (known->slots - 1);
    while (known->slot[at].low64 != 0 && !XXH128_isEqual(known->slot[at], hash)) {
        at = (at + 1) & (known->slots - 1);
    }
    return at;
}

static void add(bif_pack_known *known, XXH128_hash_t hash)
{
    if (2 * known->used >= known->slots) {
        const bif_pack_known old = *known;
        known->slots = old.slots > 0 ? 2 * old.slots : 1024;
        known->slot = bif_calloc(known->slots, sizeof *known->slot);
        for (size_t i = 0; i < old.slots; i++) {
            if (old.slot[i].low64 != 0) {
                known->slot[find(known, old.slot[i])] = old.slot[i];
            }
        }
        free(old.slot);
    }
    const size_t at = find(known, hash);
    known->used += known->slot[at].low64 == 0;
    known->slot[at] = hash;
}

static bif_status add_shard(bif_pack_known *known, const char *path)
{
    bif_status st = BIF_OK;
    bif_shard *shard = NULL;
    uint64_t *ids = NULL;
    BIF_TRY(bif_shard_open(path, &shard));
    for (int64_t i = 0; i < bif_shard_samples(shard); i++) {
        bif_shard_sample sample;
        BIF_TRY(bif_shard_get_sample(shard, i, &sample));
        ids = bif_realloc(ids, (size_t)sample.image_count + 1, 16);
        for (int64_t k = 0; k < sample.image_count; k++) {
            bif_shard_image image;
            BIF_TRY(bif_shard_get_image(shard, (int64_t)sample.images[k], &image));
            memcpy(ids + 2 * k, image.id, 16);
        }
        add(known, digest(sample.source, sample.id, sample.id_size, sample.text, sample.text_size, ids, sample.image_count));
    }
done:
    free(ids);
    bif_shard_close(shard);
    return st;
}

bif_status bif_pack_known_read(const bif_pack_options *options, bif_pack_known **out)
{
    bif_status st = BIF_OK;
    bif_pack_known *known = bif_calloc(1, sizeof *known);
    DIR *folder = opendir(options->out);
    if (folder == NULL) {
        BIF_TRY(bif_fail_errno(errno, "cannot list the folder '%s'", options->out));
    }
    for (struct dirent *entry; st == BIF_OK && (entry = readdir(folder)) != NULL;) {
        if (bif_pack_shard_number(entry->d_name, options->prefix) >= 0) {
            char *path = bif_path_join(options->out, entry->d_name);
            st = add_shard(known, path);
            free(path);
        }
    }
    if (st == BIF_OK) {
        *out = known;
        known = NULL;
    }
done:
    if (folder != NULL) {
        closedir(folder);
    }
    bif_pack_known_free(known);
    return st;
}

void bif_pack_known_free(bif_pack_known *known)
{
    if (known != NULL) {
        free(known->slot);
        free(known);
    }
}

bool bif_pack_is_known(const bif_pack_known *known, const char *source, const bif_pack_item *item, bool loaded)
{
    const size_t id_size = strlen(item->id);
    uint64_t *ids = NULL;
    if (known->used == 0 || (id_size == 0 && !loaded && item->pictures > 0)) {
        return false;
    }
    if (id_size == 0) {
        ids = bif_calloc((size_t)item->pictures, 16);
        for (int64_t i = 0; i < item->pictures; i++) {
            const XXH128_hash_t hash = XXH3_128bits(item->picture[i].bytes, item->picture[i].size); /* as the shard's /image/id */
            ids[2 * i] = hash.high64;
            ids[2 * i + 1] = hash.low64;
        }
    }
    const XXH128_hash_t hash = digest(source, item->id, id_size, item->text, strlen(item->text), ids, item->pictures);
    free(ids);
    return known->slot[find(known, hash)].low64 != 0;
}

/* Shard format v1: image-text samples in one HDF5 file that h5py reads as it is, and that we read with pread.
 *
 *   /                      attributes: format = "bifocal-shard", version = 1, tool, samples, images, payload_xxh3 (32 hex digits:
 *                          XXH3-128 over every dataset's bytes in the order below); pictures, where they were changed when packed: how
 *   /image/bytes           u8 [B]     encoded files end to end, contiguous, aligned to 4096 from 4096 bytes on; images start
 *                          at multiples of 8
 *   /image/offset          u64 [I]    where image i starts
 *   /image/size            u64 [I]    its length in bytes
 *   /image/crc32c          u32 [I]    CRC-32C of those bytes
 *   /image/width, height   u32 [I]    after EXIF rotation
 *   /image/format          u8 [I]     bif_image_format
 *   /image/id              u64 [I,2]  XXH3-128 of the bytes (high, low): the same file has the same id in every shard
 *   /sample/text/bytes     u8 [X]     one UTF-8 JSON value a sample, end to end: {"conversations":[...]} or {"caption":"..."}
 *   /sample/text/offset    u64 [N+1]
 *   /sample/image/offset   u64 [N+1]  into index
 *   /sample/image/index    u64 [K]    image numbers of this shard, in the order of the placeholders
 *   /sample/id/bytes, /sample/id/offset  the source's id as a string (may be empty)
 *   /sample/source         u32 [N]    number of the source; names in /source/bytes, /source/offset
 *
 * A reader ignores what it does not know. Columns that are computed later (hashes, embeddings) stand beside the shard (data/column.h).
 *
 * One writer a shard: temporary name, fsync, rename. A reader treats the file as untrusted: hard links, contiguous or chunked
 * native layouts, exact types, no external storage, no virtual datasets, no filters other than deflate/shuffle/fletcher32 on small columns,
 * monotone offsets within bounds; everything is checked in open. Threads may read one open shard at the same time.
 * What libhdf5 itself does with a crafted file is out of our hands: verify files of strangers with `bifocal data verify`, which reads each
 * in a process of its own. Shards we write carry checksums in their metadata (HDF5 1.8 layout), so decay is noticed.
 * Only shard.c (reading), shard_write.c and shard_memory.c include hdf5.h. */
#pragma once
#include "base/status.h"

typedef enum { BIF_IMAGE_UNKNOWN = 0, BIF_IMAGE_JPEG = 1, BIF_IMAGE_PNG = 2, BIF_IMAGE_WEBP = 3 } bif_image_format;

/* ---- reading ---- */
typedef struct bif_shard bif_shard;

bif_status bif_shard_open(const char *path, bif_shard **out);
void bif_shard_close(bif_shard *shard); /* NULL is allowed */
const char *bif_shard_path(const bif_shard *shard);
const char *bif_shard_payload_digest(const bif_shard *shard); /* the attribute, 32 hex digits */
int64_t bif_shard_samples(const bif_shard *shard);
int64_t bif_shard_images(const bif_shard *shard);

typedef struct {
    const char *text; /* JSON, not terminated; owned by the shard */
    size_t text_size;
    const char *id; /* not terminated; owned by the shard */
    size_t id_size;
    const char *source; /* terminated; owned by the shard */
    const uint64_t *images; /* image numbers of this shard; owned by the shard */
    int64_t image_count;
} bif_shard_sample;
bif_status bif_shard_get_sample(const bif_shard *shard, int64_t index, bif_shard_sample *out);

typedef struct {
    uint64_t size; /* bytes of the encoded file */
    uint32_t crc32c, width, height;
    bif_image_format format;
    uint64_t id[2];
} bif_shard_image;
bif_status bif_shard_get_image(const bif_shard *shard, int64_t index, bif_shard_image *out);
/* Reads the encoded bytes of an image into `buffer` (at least `size` bytes) by pread, and checks the CRC:
 * BIF_ERR_DATA "shard X, image I: bytes do not match their checksum". Thread-safe. */
bif_status bif_shard_read_image(const bif_shard *shard, int64_t index, void *buffer, size_t buffer_size);

/* Calls `use` with the path, or of a folder with that of each *.h5 in it by name, until one fails. */
bif_status bif_shard_each(const char *path, bif_status (*use)(void *context, const char *path), void *context);

/* Reads everything back: structure, offsets, every CRC, every id, the payload digest, JSON and UTF-8 of every text. *bad counts
 * the records that failed; each is named with bif_warn (at most 20, then a count). BIF_ERR_DATA when *bad > 0. */
bif_status bif_shard_verify(const char *path, int64_t *bad);
/* What it checks of one sample: UTF-8, JSON, a caption or conversations. */
bif_status bif_shard_check_text(const bif_shard *shard, int64_t index);

/* ---- writing ---- */
typedef struct bif_shard_writer bif_shard_writer;

/* Nothing appears under `path` before commit. */
bif_status bif_shard_writer_open(const char *path, bif_shard_writer **out);
/* Adds an image and gives its number; the same bytes twice give the same number (stored once). */
bif_status bif_shard_add_image(bif_shard_writer *writer, const void *bytes, size_t size, bif_image_format format, uint32_t width,
                               uint32_t height, int64_t *index);
/* text: a JSON value as above. */
bif_status bif_shard_add_sample(bif_shard_writer *writer, const char *text, size_t text_size, const char *id, const char *source,
                                const int64_t *images, int64_t image_count);
/* What was done to the pictures before, as the attribute "pictures" of the file, which readers ignore. At most once. */
void bif_shard_writer_note(bif_shard_writer *writer, const char *note);
int64_t bif_shard_writer_bytes(const bif_shard_writer *writer);   /* image bytes so far */
int64_t bif_shard_writer_samples(const bif_shard_writer *writer);
bif_status bif_shard_writer_commit(bif_shard_writer *writer); /* frees in every case */
void bif_shard_writer_abandon(bif_shard_writer *writer);      /* removes the temporary; NULL is allowed */

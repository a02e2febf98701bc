/* All hashes of a picture, and the columns of a shard that hold them. */
#pragma once
#include "data/column.h"
#include "data/hash_image.h"
#include "data/hash_pdq.h"
#include "data/hash_text.h"
#include "data/image.h"
#include "data/team.h"

/* Numbers of columns, and bits of a set of them. */
enum { BIF_HASH_PIXELS = 0, BIF_HASH_IMAGEHASH = 1 /* and the next 3, by bif_hash_kind */, BIF_HASH_IMAGEDEDUP = 5 /* as before */,
       BIF_HASH_PDQ = 9, BIF_HASH_PDQ_QUALITY, BIF_HASH_PDQ_DIHEDRAL, BIF_HASH_MEAN_STD, BIF_HASH_CAPTION, BIF_HASH_MINHASH,
       BIF_HASH_COLUMNS };
typedef uint32_t bif_hash_set;
#define BIF_HASH_OF_IMAGES (((bif_hash_set)1 << BIF_HASH_CAPTION) - 1)
#define BIF_HASH_OF_ALL (((bif_hash_set)1 << BIF_HASH_COLUMNS) - 1)

/* Name, method, type and width; rows 0. */
bif_column_info bif_hash_column(int number);
/* Names with commas between. BIF_ERR_USAGE: an unknown one. */
bif_status bif_hash_set_by_names(const char *names, bif_hash_set *out);

typedef struct {
    int64_t width, height; /* as stored, the EXIF orientation not applied */
    uint64_t pixels[2];    /* of the picture upright */
    uint64_t imagehash[4], imagededup[4];
    bif_pdq pdq;
    float mean_std[2];
} bif_hashes;

/* Only what `set` asks for is computed, the rest is 0. memo: as in data/hash_image.h. BIF_ERR_DATA: the picture cannot be decoded. */
bif_status bif_hash_picture(const char *what, const void *bytes, size_t size, const bif_image_limits *limits, bif_hash_set set,
                            bif_resize_memo *memo, bif_hashes *out);

typedef struct {
    bif_hash_set set;
    bool overwrite;        /* columns made by the same method too */
    int64_t memory;        /* bytes of this rank */
    int64_t max_pixels;    /* of one picture; 0: as in data/image.h */
} bif_hash_options;

typedef struct {
    int64_t images, bad_images, samples; /* hashed by this call */
    int columns, kept;                   /* written; found made by the same method */
} bif_hash_result;

/* Writes the columns of one shard, and hash-errors.jsonl beside them: {"image", "id", "error"} of each picture that cannot be decoded, or
 * not in the memory (pixels 0, 0, pdq_quality 255, the rest 0). Threads and `poll` of the team. `where` is put before the lines of progress.
 * BIF_ERR_MEMORY with the need: not even the columns fit. */
bif_status bif_hash_shard(const bif_shard *shard, const bif_hash_options *options, const bif_team *team, const char *where,
                          bif_hash_result *result);

/* Shared by data/pack*.c. */
#pragma once
#include "base/file.h"
#include "base/json.h"
#include "data/pack.h"
#include "data/shard.h"
#include "data/tar.h"

#define BIF_PACK_IMAGES 1024           /* of one sample */
#define BIF_PACK_TEXT ((size_t)1 << 24) /* bytes of a .txt or .json */

typedef struct {
    char *name;    /* below the root; of a tar: the member's */
    int64_t at;    /* in the tar; -1 = below the root */
    uint64_t size; /* of the file, then of `bytes` */
    void *bytes;   /* NULL = not read yet */
    bif_image_format format;
    int64_t width, height;
    bool resized;
} bif_pack_picture;

/* A record on its way. */
typedef struct {
    int64_t number, line; /* line 0: key says where it is */
    char *key;            /* of a tar's group, path of a folder's picture; NULL of records */
    char *id;             /* "" = none */
    char *text;           /* as the shard stores it */
    bif_pack_picture *picture;
    int64_t pictures;
    bool image_only, known;
    bif_status failed; /* BIF_ERR_DATA: the record is bad, of `reason`; others end the pack */
    char *reason;
} bif_pack_item;
void bif_pack_item_free(bif_pack_item *item); /* and zeroes it */
/* Notes bif_error_message() as the item's failure, unless st is BIF_OK. */
void bif_pack_item_failed(bif_pack_item *item, bif_status st);

/* ---- texts (pack_text.c) ---- */
/* *id malloc'ed; "" when there is none. */
bif_status bif_pack_id(const json_t *record, char **id);
/* What the shard stores for {"conversations": ...} or a caption; *image_only: that is "", and there are pictures. */
bif_status bif_pack_text(const json_t *record, int64_t images, char **text, bool *image_only);
/* The bytes of a .txt as a caption, in place (one byte behind them is the caller's too): terminated, without a byte order mark and the line
 * ends behind it; "" when it is blank. BIF_ERR_DATA: not UTF-8, or a zero byte in it. */
bif_status bif_pack_caption(const char *name, char *text, size_t size);
json_t *bif_pack_string(const char *text); /* bytes that are no UTF-8 become '?' */

/* ---- pictures (pack_picture.c); all thread-safe ---- */
/* Where pictures are read from. */
typedef struct {
    const bif_pack_options *options;
    int root; /* descriptor of the folder, -1 = none */
    const char *root_name;
    const bif_tar *tar; /* NULL = none */
} bif_pack_place;
/* Adds the pictures that a record names, with the sizes of their files. */
bif_status bif_pack_pictures(const bif_pack_place *place, const json_t *record, bif_pack_item *item);
bif_status bif_pack_check_sizes(const bif_pack_options *options, const bif_pack_item *item); /* of the picture files */
/* Reads, checks and perhaps resizes the item's pictures. */
bif_status bif_pack_load(const bif_pack_place *place, bif_pack_item *item);

/* ---- sources (pack_source.c, pack_tar.c) ---- */
typedef struct {
    int64_t offset, line; /* in the file of records: where the first one starts */
    int64_t number;       /* of the first one, from 1 */
    int64_t records;
} bif_pack_range;

/* What all ranks know of the work. */
typedef struct {
    const bif_pack_options *options;
    bif_pack_kind kind;
    int64_t units;
    bif_pack_range *range; /* RECORDS and FOLDER [units] */
    char *records;         /* path of the file of records: of a FOLDER its listing in the staging folder */
    bif_records_format format;
    char **tar; /* WEBDATASET [units] */
    bool statistics; /* some tar has them */
    char *staging;
    struct bif_pack_known *known; /* NULL = nothing is left out */
} bif_pack_plan;

/* A record of a file of records or of a listing as an item, without its bytes. Consumes `record->value`. */
void bif_pack_item_of(const bif_pack_plan *plan, const bif_pack_place *place, const bif_record *record, bif_pack_item *item);

typedef struct bif_pack_groups bif_pack_groups; /* of the members of a tar */
bif_pack_groups *bif_pack_groups_open(bif_tar *tar, const bif_pack_options *options); /* borrows the tar */
/* The next group as an item; its texts are read, its picture is not. *more = false at the end. A damaged tar ends with an item whose
 * failure says so (key NULL, so it is about the tar). */
bif_status bif_pack_groups_next(bif_pack_groups *groups, bif_pack_item *item, bool *more);
/* At the end: what of the tar was not read, and why; NULL: all was. */
const char *bif_pack_groups_lost(const bif_pack_groups *groups);
void bif_pack_groups_close(bif_pack_groups *groups); /* NULL is allowed */

/* ---- what a source consists of (pack_list.c) ---- */
typedef struct {
    char **path; /* [count] */
    size_t count;
} bif_pack_paths;
void bif_pack_paths_free(bif_pack_paths *paths); /* and zeroes it */
bool bif_pack_ends_with(const char *text, const char *end); /* capital letters are as good */
bif_status bif_pack_list_names(const char *folder, const char *end, bif_pack_paths *out); /* sorted; without those that begin with a dot */
/* All tars of the options, checked to be there; plan->statistics. *odd: how many lines about the source as a whole were written. */
bif_status bif_pack_list_tars(bif_pack_plan *plan, bif_pack_paths *tars, int64_t *odd);
/* Writes plan->records: a line {"id", "image", "caption" | "reason"} for each picture below the folder, then for each text without one. */
bif_status bif_pack_list_folder(bif_pack_plan *plan);

/* NNNNN_stats.json beside NNNNN.tar. *there = false: none. */
bif_status bif_pack_statistics(const char *tar, bool *there, int64_t *count, int64_t *successes);

/* Cuts the source into units; collective. Fills kind, units, range | tar, records, format, statistics. *odd: as above. */
bif_status bif_pack_make_plan(bif_pack_plan *plan, const bif_team *team, int64_t *odd);
const char *bif_pack_records_name(const bif_pack_plan *plan); /* of the file of records, in messages */
/* The folder below which a plan's pictures lie. */
bif_status bif_pack_place_open(const bif_pack_plan *plan, bif_pack_place *place);
void bif_pack_place_close(bif_pack_place *place);
void bif_pack_plan_free(bif_pack_plan *plan);

/* ---- units (pack_unit.c) ---- */
/* Numbers of one unit; doubles, because teams sum these. */
typedef enum {
    BIF_PACK_RECORDS_READ,
    BIF_PACK_BAD,
    BIF_PACK_KNOWN,
    BIF_PACK_SAMPLES,
    BIF_PACK_TEXT_ONLY,
    BIF_PACK_IMAGE_ONLY,
    BIF_PACK_IMAGES_STORED,
    BIF_PACK_RESIZED,
    BIF_PACK_BYTES,
    BIF_PACK_SHARDS,
    BIF_PACK_ODD,
    BIF_PACK_TOLD,
    BIF_PACK_DOWNLOADED,
    BIF_PACK_TOLD_PACKED,
    BIF_PACK_COUNTS
} bif_pack_count;
/* count [BIF_PACK_COUNTS], zeros before; *said: of the process, 0 before its first unit. Leaves shards bif_pack_unit_shard(0..) and a list
 * of errors in the staging folder. */
bif_status bif_pack_unit(const bif_pack_plan *plan, const bif_team *team, int64_t unit, double *count, double *said);
char *bif_pack_unit_shard(const bif_pack_plan *plan, int64_t unit, int64_t number); /* malloc'ed */
char *bif_pack_unit_errors(const bif_pack_plan *plan, int64_t unit);                /* malloc'ed; unit -1: of the source as a whole */
/* A line of a list of errors. NULL or 0: left out. */
bif_status bif_pack_error_row(bif_writer *errors, const char *input, int64_t record, int64_t line, const char *key_name, const char *key,
                              const char *id, const char *reason);

/* ---- names (pack_names.c) ---- */
int64_t bif_pack_shard_number(const char *name, const char *prefix); /* PREFIX-00000.h5 with any number: the number, else -1 */
bif_status bif_pack_next_number(const bif_pack_options *options, int64_t *next); /* behind the last shard of the prefix */
bif_status bif_pack_sweep(const bif_pack_options *options); /* what killed packs left */
/* Gives the shards of all units their names, from number `first` on; with overwrite, other shards of the prefix go. shards [units]. */
bif_status bif_pack_publish(const bif_pack_plan *plan, const int64_t *shards, int64_t first);

/* ---- what is there already (pack_known.c) ---- */
typedef struct bif_pack_known bif_pack_known;
bif_status bif_pack_known_read(const bif_pack_options *options, bif_pack_known **out);
void bif_pack_known_free(bif_pack_known *known); /* NULL is allowed */
/* Is the item among them? Of items without an id only once their pictures are read (`loaded`). */
bool bif_pack_is_known(const bif_pack_known *known, const char *source, const bif_pack_item *item, bool loaded);
char *bif_pack_source_name(const bif_pack_options *options, const char *tar); /* malloc'ed; tar NULL = no tar */

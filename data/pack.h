/* Images and their texts into shards: OUT/PREFIX-00000.h5, OUT/PREFIX-00001.h5, ... Three kinds of sources:
 *
 * RECORDS     a JSON object (one of an array, or a line), or a row of CSV:
 *   id             string or integer; may be missing
 *   image          a path below the image root, a list of paths, or missing (a text-only sample)
 *   conversations  [{"from": "human"|"gpt", "value": "..."}, ...]; the human turns hold one "<image>" for each image (or, as LLaVA
 *                  reads it, one turn with some for each). What data/chat.h cannot encode with any template is bad: other roles, two
 *                  turns of one role in a row (a first one from gpt may stand before), an empty answer, none at all
 *   caption        a string instead of conversations. "" with an image: an image-only sample, stored as {"conversations":[]}, which
 *                  the trainer leaves out
 *   Other keys are dropped.
 * WEBDATASET  tars as img2dataset writes them. Members are grouped as the webdataset package does: consecutive ones whose paths are equal
 *   up to the first dot of the base name, the key. jpg, jpeg, png or webp is the picture; json may hold uid (then the sample's id, else
 *   key, else the key of the group), conversations, or a caption where there is no txt; line ends behind a txt are dropped. Nothing in a
 *   tar is ever taken for a path on disk. NNNNN_stats.json beside NNNNN.tar is compared with what was read.
 * FOLDER      pictures anywhere below a folder, each with a .txt of the same name; the id is the picture's path. Sorted by path; links
 *   to folders and names that begin with a dot are passed over.
 *
 * Pictures are stored as they are, or made smaller when that is asked for; the same bytes are stored once a shard.
 *
 * What cannot be used becomes a line of OUT/PREFIX-errors.jsonl, {"input": base name, "record", "line" | "key" | "file", "id", "reason"},
 * and is counted; too many of them fail the pack. With `append` the lines of earlier packs stay.
 *
 * Work is cut into units that depend on the source alone (a tar; records or files for one shard, as far as the sizes of the picture
 * files tell), shared over the ranks of a team. A unit's shards get their names behind those of the units before it, all together at
 * the end: after a failure or a kill there is none (with `overwrite`, none is replaced before), and any number of ranks and threads gives
 * the same bytes. What a killed pack left (a folder .PREFIX-packing-PID) goes with the next one of the same prefix. */
#pragma once
#include "base/status.h"
#include "data/image.h"
#include "data/records.h"
#include "data/team.h"

typedef enum { BIF_PACK_AUTO = 0, BIF_PACK_RECORDS = 1, BIF_PACK_WEBDATASET = 2, BIF_PACK_FOLDER = 3 } bif_pack_kind;

typedef struct {
    const char *input;         /* the records ("-": standard input, one rank only); a folder; a tar */
    const char *const *more;   /* [more_count] further tars, or folders of them; borrowed */
    int64_t more_count;
    bif_pack_kind kind;        /* AUTO: *.tar and folders with such are WEBDATASET, other folders FOLDER, files RECORDS */
    bif_records_format format; /* of RECORDS */
    const char *image_root; /* folder; NULL: records with images are bad */
    const char *out;        /* folder, made if missing */
    const char *prefix;     /* of the file names; no '/' */
    const char *source;     /* name of the source in the shard; NULL = the base name of input; of a tar that of its folder */
    int64_t max_shard_bytes; /* image bytes of a shard */
    int64_t max_samples;     /* samples of a shard; 0 = no limit */
    int64_t max_image_bytes; /* of one encoded file; larger ones are bad */
    bif_image_limits image_limits;
    int64_t resize_short; /* pictures whose shorter side is above are resized to it (bicubic, turned upright); 0 = none */
    int quality;          /* of the JPEG that those become, 1 to 100 */
    double max_bad_share; /* of all records; above it the pack fails */
    double min_success;   /* of the counts in the tars' statistics: at least this part must be told as downloaded, and be packed */
    bool strict;          /* the first bad record fails the pack */
    bool overwrite;       /* replace shards of the same prefix */
    bool append;          /* go on behind the shards of the same prefix, which stay as they are */
    bool skip_known;      /* with append: leave out what these hold: the same source, id and text; without an id also the same pictures */
    bool image_only;      /* pictures of tars and folders that have no text become image-only samples; else they are bad */
} bif_pack_options;

/* 1 GiB a shard, 64 MiB an image, 5 % bad records, quality 95, 10 % success; the rest zero. */
bif_pack_options bif_pack_defaults(void);

typedef struct {
    int64_t records, bad;
    int64_t known;       /* left out because they are there already */
    int64_t samples, text_only, image_only;
    int64_t images;      /* stored, after the same ones were joined */
    int64_t resized;
    int64_t image_bytes;
    int64_t shards;
    int64_t odd;         /* lines of the list of errors about a source as a whole */
} bif_pack_result;

/* Collective; `out` is seen by all ranks. The result is that of all. */
bif_status bif_pack(const bif_pack_options *options, const bif_team *team, bif_pack_result *result);

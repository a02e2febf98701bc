/* Duplicates: from what matches to samples that are dropped, and samples that are also in other shards.
 *
 * A relation says which images (or which captions) match. Items that cannot be told apart (the same hash) are one class, so a picture that
 * stands in a pool a million times costs no pair; near items are pairs of classes. Samples match by the relations of their images and
 * captions:
 *
 *   images     two samples with equally many images match when these can be paired one to one, in any order, so that both of a pair match.
 *              (A search for such pairs is made up to 64 images a sample; beyond, the classes must be the same.) A sample with a broken
 *              picture matches none. The value is the greatest distance from an image of the one to the nearest of the other.
 *   captions   the captions match, and of conversations all else that is said in them is the same, case and spaces aside: another question
 *              is another sample, even where the answer is "Yes" again
 *
 *   match image     the images match (at least one image)
 *         caption   the captions match (a caption at least)
 *         both      images and captions match; two samples without images, or two without captions, are alike in that: the default, which
 *                   leaves several questions or captions of one image alone
 *         either    one of the two
 *
 * Which sample of several stays, in this order; where two are equal the next line decides, and at last the smaller uid, then the smaller
 * number in the pool:
 *   keep largest    most pixels (width x height, all images of the sample together), then most bytes of the encoded images
 *        quality    highest PDQ quality (the worst image's; column pdq_quality), then most encoded bytes a pixel
 *        longest    most bytes of the caption, then most pixels
 *        first      smallest id string, byte by byte; samples without an id come last
 *        hard       farthest from its cluster's centroid (the farthest image's; column NAME.cluster_distance), then most pixels: what is
 *                   least like the rest; samples without one come last. SemDeDup calls it keep_hard
 *        easy       nearest to it (by its farthest image)
 *
 *   group greedy    in the order of `keep` a sample stays unless it matches one that stays; so each that goes names one that stays, the
 *                   closest
 *         chain     of samples connected by matches, over any number of steps, the first in the order of `keep` stays; the others name the
 *                   first in that order that they match themselves
 *         any       a sample goes when it matches any that comes before it, also one that goes itself, and names the first of these
 *                   (SemDeDup's rule)
 *
 * All depends on the data and the options alone, not on ranks, threads or the order of the shards. */
#pragma once
#include "data/selection.h"
#include "data/team.h"

/* Two images (or samples) of a pool that match; a < b. */
typedef struct {
    uint32_t a, b;
    float value; /* Hamming distance, or similarity */
} bif_pair;

typedef struct {
    bif_pair *pair;
    int64_t count, room;
} bif_pairs;
void bif_pairs_add(bif_pairs *pairs, uint32_t a, uint32_t b, float value); /* a and b in any order; a == b is ignored */
/* Sorted by (a, b), each pair once (the least value if `least`, else the greatest): the same for any order of adding. */
void bif_pairs_sort(bif_pairs *pairs, bool least);
void bif_pairs_free(bif_pairs *pairs);

#define BIF_NO_CLASS UINT32_MAX

/* Which items of a pool match: images, or samples by their captions. */
typedef struct {
    uint32_t *item;   /* [items] class of each, BIF_NO_CLASS: matches none; NULL: each item its own class (classes = items) */
    int64_t items, classes;
    bif_pairs pairs;  /* of classes, sorted */
    bool similarity;  /* a greater value is closer (1 within a class); else a smaller one (0 within a class) */
} bif_relation;
void bif_relation_free(bif_relation *relation);
int64_t bif_relation_bytes(const bif_relation *relation); /* of its memory, and of what bif_dedup and bif_leak make of it */

typedef enum { BIF_MATCH_BOTH = 0, BIF_MATCH_IMAGE = 1, BIF_MATCH_CAPTION = 2, BIF_MATCH_EITHER = 3 } bif_match;
typedef enum { BIF_KEEP_LARGEST = 0, BIF_KEEP_QUALITY = 1, BIF_KEEP_LONGEST = 2, BIF_KEEP_FIRST = 3, BIF_KEEP_HARD = 4,
               BIF_KEEP_EASY = 5 } bif_keep;
typedef enum { BIF_GROUP_GREEDY = 0, BIF_GROUP_CHAIN = 1, BIF_GROUP_ANY = 2 } bif_group;
typedef struct {
    bif_match match;
    bif_keep keep;
    bif_group group;
    const char *name; /* of hard and easy: whose cluster_distance ("clip") */
} bif_dedup_options;
/* "both", ...; "largest", ...; "greedy", "chain", "any". BIF_ERR_USAGE names what there is. */
bif_status bif_match_by_name(const char *name, bif_match *out);
bif_status bif_keep_by_name(const char *name, bif_keep *out);
bif_status bif_group_by_name(const char *name, bif_group *out);

/* Samples that take part, and the others by number (NULL selection: all do). */
typedef struct {
    const bif_pool *pool;
    const bif_selection *selection;
} bif_pool_part;

/* How images are compared. */
typedef struct {
    /* exact (the same encoded bytes, good or broken), pixels, ahash, dhash, phash, whash, the same with _imagededup, pdq */
    const char *name;
    const char *column;  /* NULL: the id in the shard */
    bif_column_type type;
    int64_t width;       /* numbers a row */
    int words;           /* of 64 bits for the Hamming distance; 0: equal or not */
    int distance;        /* by default */
} bif_image_method;
extern const bif_image_method bif_image_methods[]; /* ends with name NULL */

typedef struct {
    const bif_image_method *images; /* NULL: not compared */
    int distance;
    int quality;        /* pdq: images below, and those with no bit set (plain ones), match only the same file; broken ones match none */
    bool dihedral;      /* pdq: turned and mirrored pictures match, too */
    bool minhash;       /* captions that are near, too; else the same, case and spaces aside */
    double jaccard;     /* of which the signatures' estimate must be at least this */
    int64_t memory;     /* bytes of this rank; BIF_ERR_MEMORY, with the number needed, before the work */
    int64_t held;       /* of which so many are taken already, by the relation of the images */
} bif_near_options;

/* The relation of the images of one pool, or (others not NULL) between those of two: the items are then the images of `part` and behind
 * them those of `others`, and the pairs between the two. Collective; the result is on rank 0, elsewhere zeroed. Needs columns of data hash.
 * columns: the methods of the columns used are added, by name. */
bif_status bif_near_images(const bif_pool_part *part, const bif_pool_part *others, const bif_near_options *options, const bif_team *team,
                           json_t *columns, bif_relation *out);
/* The same of captions; the items are samples. */
bif_status bif_near_captions(const bif_pool_part *part, const bif_pool_part *others, const bif_near_options *options, const bif_team *team,
                             json_t *columns, bif_relation *out);

/* Adds the step "dedup" to the selection. captions NULL: samples whose captions are the same, from the column caption_hash, if the match
 * asks for captions at all. images NULL: with match caption only. parameters are the caller's, and get match, keep and group. What the
 * selection dropped already takes no part. On one rank; `memory` as above. */
bif_status bif_dedup(const bif_pool *pool, bif_selection *selection, const bif_dedup_options *options, const bif_relation *images,
                     const bif_relation *captions, json_t *parameters, int64_t memory);

/* Adds the step "leak": samples of the pool whose images or captions are also in `others`. An image is in the others when one of any
 * sample's there matches it, and a sample's when one of its images is; `both` asks for image and caption of one sample there. relations:
 * between the two pools. list (may be NULL) is called for each match, in order of the samples: numbers in the pool and in the other. */
typedef struct {
    bif_match match;
    void (*list)(void *context, int64_t sample, int64_t other, bool image, bool caption, float value);
    void *context;
} bif_leak_options;
bif_status bif_leak(const bif_pool *pool, bif_selection *selection, const bif_pool *others, const bif_leak_options *options,
                    const bif_relation *images, const bif_relation *captions, json_t *parameters);

/* A list of concepts (metadata entries) and the captions they occur in, by the rule of MetaCLIP (Xu et al. 2024, "Demystifying CLIP Data"):
 * a caption gets one space before and behind it, one on each side of every , . ; : ? ! and `, and a space for every tab, newline and
 * carriage return; runs of spaces stay. An entry matches when it occurs there with a space on each side. Entries get those two spaces and
 * nothing else, so "U.S." never matches. Case counts, unless it is folded: then both sides go through Unicode's simple lower case.
 *
 * The list is an Aho-Corasick automaton over bytes in a double array: 16 bytes a state, one state a distinct prefix, and every caption is
 * read once, whatever the number of entries. Once made it does not change: threads may match at the same time, each with a
 * bif_concepts_found of its own. */
#pragma once
#include "base/status.h"

typedef struct bif_concepts bif_concepts;

typedef struct {
    int64_t listed;      /* in the file */
    int64_t empty;       /* nothing, or only spaces: left out (they would match double spaces) */
    int64_t duplicate;   /* equal to an entry before (after folding): left out; the first counts */
    int64_t unmatchable; /* with tab, newline or carriage return, or a , . ; : ? ! ` that does not stand alone: left out */
    int64_t entries;     /* the rest: numbered from 0 in the order of the list */
    int64_t states;
    int64_t bytes;       /* memory */
} bif_concepts_info;

/* A name that ends in .json: an array of strings, as MetaCLIP's metadata.json; else one entry a line, as it stands. BIF_ERR_DATA: not
 * UTF-8, no entry that could match; BIF_ERR_MEMORY: more than `most` bytes would be needed, found before they are taken. */
bif_status bif_concepts_open(const char *path, bool fold_case, int64_t most, bif_concepts **out);
/* The same of entries in memory; where = what messages name. */
bif_status bif_concepts_make(const char *where, const char *const *entry, const size_t *size, int64_t count, bool fold_case, int64_t most,
                             bif_concepts **out);
void bif_concepts_free(bif_concepts *concepts); /* NULL is allowed */
bif_concepts_info bif_concepts_describe(const bif_concepts *concepts);
const char *bif_concepts_name(const bif_concepts *concepts, int64_t entry, size_t *size); /* folded if case is; not terminated */
uint64_t bif_concepts_hash(const bif_concepts *concepts, int64_t entry);                  /* bif_hash_bytes of the name */
int64_t bif_concepts_find(const bif_concepts *concepts, const char *name, size_t size);   /* its number (folds if case is), or -1 */
void bif_concepts_digest(const bif_concepts *concepts, char hex[33]);                     /* of all names in their order */

/* Zeroed at first; free with bif_concepts_found_free. */
typedef struct {
    uint32_t *id; /* [count] entries that match, each once */
    int64_t count, room;
    uint32_t *seen, round; /* when an entry was met last */
    char *folded;
    size_t folded_room;
} bif_concepts_found;
void bif_concepts_match(const bif_concepts *concepts, const char *text, size_t size, bif_concepts_found *found);
void bif_concepts_found_free(bif_concepts_found *found);

/* Matches of entries, as a file: JSON {"name": count} when the path ends in .json (as MetaCLIP's entry_counts_400m.json), else a line
 * name TAB count each. Names that are no entries are passed over; entries the file lacks get 0. counts [entries], whole numbers.
 * BIF_ERR_DATA: no entry of the list is in the file, or a count is no whole number from 0 on. */
bif_status bif_concepts_read_counts(const bif_concepts *concepts, const char *path, double *counts, int64_t *lacking);
bif_status bif_concepts_write_counts(const bif_concepts *concepts, const char *path, const double *counts);

/* The automaton of data/concepts.h, made in concepts_build.c and run in concepts.c. */
#pragma once
#include "data/concepts.h"

/* State s goes on by byte b (code c) to t = base + c if node[t].check == s; else as its fail state does. State 0 is the start. */
typedef struct {
    int32_t base, check, fail;
    int32_t out; /* the longest entry that ends here, or -1; with BIF_CONCEPT_MORE: shorter ones by `shorter` of the entry */
} bif_concept_state;
enum { BIF_CONCEPT_MORE = 1 << 30 }; /* a bit of `out`, so that the table `shorter` is read only where it says something */

struct bif_concepts {
    char *text; /* names end to end */
    int64_t *start; /* [entries + 1] */
    uint64_t *hash; /* [entries] */
    int32_t *shorter; /* [entries] the longest other entry that ends every occurrence of this one, as `out`, or -1 */
    uint32_t *order; /* [entries] by name */
    bif_concept_state *state;
    int64_t room;
    uint16_t code[256]; /* from 1; 0: in no entry */
    bool fold_case;
    bif_concepts_info info;
};

/* qsort_r order of entry numbers: by name with a space on each side, then by number. */
int bif_concepts_compare(const void *a, const void *b, void *concepts);
/* Fills shorter, state, room and code from the names, which differ from each other, and their order. */
bif_status bif_concepts_build(const char *where, bif_concepts *concepts, int64_t most);

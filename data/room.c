/* Says which rooms stand on this one; keeps the library from being empty. */
extern int bif_room_data;
int bif_room_data;

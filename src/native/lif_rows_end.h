/* After the last file that needs lif_rows.h. */
#undef ROW
#undef vector
#undef mask
#undef bits

"""Rows in Parquet files, with pyarrow: import nothing from here before `packing.import_arrow`.

source   a file, checked before anything of it is trusted, and what pyarrow's errors mean
pages    what the headers of its pages claim, before pyarrow allocates it; thrift: how they are read
inside   what stands in pages where headers tell too little; held: what pyarrow holds of all that
reader   its rows, as other formats have theirs; values: what each type is in JSON
groups   batches of rows on their way to a file, in row groups of bounded bytes
beside   what rows gained, written beside the columns that they were read from
alone    rows of other formats, whose columns' types are found first
"""

select cloison.drop_copy_table()

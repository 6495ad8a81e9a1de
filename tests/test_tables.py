from nengonet.tables import aligned


def test_columns_are_as_wide_as_their_widest_cell():
    rows = [["layer", "kind", "n"], ["a", "Dense", "1,000"], ["b", "", "-"]]
    assert aligned(rows, left=(0,)) == [
        "layer   kind      n",
        "a      Dense  1,000",
        "b                 -",
    ]
    # Nothing stands behind the last cell.
    assert aligned(rows, left=(2,))[2] == "    b         -"

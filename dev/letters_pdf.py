"""A minimal PDF of one A4 page: real enough for every reader, small enough to make by the thousand."""

CATALOGUE = b"<< /Type /Catalog /Pages 2 0 R >>"
PAGES = b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>"
PAGE = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>"
FONT = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"


def letter_pdf(line: str) -> bytes:
    """One page with one line on it. Characters outside Latin-1 become question marks."""
    content = b"BT /F1 14 Tf 72 720 Td (" + _escaped(line) + b") Tj ET"
    stream = b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content)
    body, offsets = b"%PDF-1.4\n", []
    for number, entry in enumerate((CATALOGUE, PAGES, PAGE, stream, FONT), start=1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, entry)
    # An entry of the cross-reference table is 20 bytes long, whatever the reader's platform.
    table = b"0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size = len(offsets) + 1
    return body + b"xref\n0 %d\n%strailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (
        size,
        table,
        size,
        len(body),
    )


def _escaped(line: str) -> bytes:
    plain = line.encode("latin-1", errors="replace")
    return plain.replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)")

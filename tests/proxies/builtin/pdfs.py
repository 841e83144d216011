"""Small PDF files, as other programs write them: a page tree, a font, one content stream per page, a table of offsets."""

from __future__ import annotations


def pdf(*pages: str) -> bytes:
    """A PDF whose pages have these lines of text. An empty page has none."""
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    for number, page in enumerate(pages):
        lines = "".join(f"({_escaped(line)}) Tj T* " for line in page.splitlines())
        text = f"BT /F1 12 Tf 14 TL 72 720 Td {lines}ET"
        resources = "<< /Font << /F1 3 0 R >> >>"
        contents = f"/Contents {5 + 2 * number} 0 R"
        objects += [
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources {resources} {contents} >>",
            f"<< /Length {len(text.encode('cp1252'))} >>\nstream\n{text}\nendstream",
        ]
    data = b"%PDF-1.4\n"
    offsets = []
    for number, one in enumerate(objects, 1):
        offsets.append(len(data))
        data += f"{number} 0 obj\n{one}\nendobj\n".encode("cp1252")
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    count, start = len(objects) + 1, len(data)
    end = f"trailer\n<< /Size {count} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n"
    return data + f"xref\n0 {count}\n0000000000 65535 f \n{table}{end}".encode()


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")

# ruff: noqa: RUF001 - French is written with its own apostrophe
"""Texts for demonstration: what messages say, and faxes as PDF.

A fax is a PDF and no TIFF: every viewer opens it, and it needs no bi-level coder. The form is that of ISO 32000-1; the
font is one of the standard fourteen, so the characters are those of WinAnsiEncoding (code page 1252).
"""

from __future__ import annotations

import random

_OPENINGS = {
    "en": ("Hello, this is {name}.", "Good morning, {name} speaking.", "Hi, it's {name} again."),
    "de": ("Guten Tag, hier spricht {name}.", "Grüezi, {name} am Apparat.", "Hallo, {name} nochmals."),
    "fr": ("Bonjour, {name} à l’appareil.", "Bonjour, c’est {name}.", "Re-bonjour, {name}."),
}
_SENTENCES = {
    "en": (
        "Please call me back on {phone}.",
        "The delivery is late and comes on Thursday at half past eight.",
        "I could not reach anybody at the front desk.",
        "We have moved the meeting to room 214.",
        "The offer that you sent last week is fine, only the second item is missing.",
        "The lift is out of order again, the technician knows.",
        "There is no hurry, any time before the end of the month will do.",
        "Could you send me the figures of the last quarter once more?",
    ),
    "de": (
        "Bitte rufen Sie mich unter {phone} zurück.",
        "Die Lieferung verspätet sich und kommt am Donnerstag um halb neun.",
        "Am Empfang konnte ich niemanden erreichen.",
        "Wir haben die Sitzung ins Zimmer 214 verlegt.",
        "Die Offerte von letzter Woche ist in Ordnung, nur der zweite Posten fehlt.",
        "Der Aufzug steht wieder still, der Techniker weiß Bescheid.",
        "Es eilt nicht, bis Ende Monat genügt.",
        "Könnten Sie mir die Zahlen des letzten Quartals nochmals schicken?",
    ),
    "fr": (
        "Merci de me rappeler au {phone}.",
        "La livraison a du retard et arrivera jeudi à huit heures et demie.",
        "Je n’ai pu joindre personne à la réception.",
        "Nous avons déplacé la réunion à la salle 214.",
        "L’offre de la semaine passée convient, il ne manque que le deuxième poste.",
        "L’ascenseur est de nouveau en panne, le technicien est prévenu.",
        "Rien ne presse, d’ici la fin du mois suffira.",
        "Pourriez-vous me renvoyer les chiffres du dernier trimestre ?",
    ),
}
_SPOKEN_A_SECOND = 15.0
"""Characters that somebody says in a second."""
_LINE = 84  # characters of 10 points that surely fit the width of A4


def make_transcript(chance: random.Random, language: str, name: str, phone: str, length_s: float) -> str:
    """Return what can be said in that time; in English for a language that is not among the texts."""
    language = language if language in _SENTENCES else "en"
    text = chance.choice(_OPENINGS[language]).format(name=name)
    while len(text) < length_s * _SPOKEN_A_SECOND:
        text += " " + chance.choice(_SENTENCES[language]).format(phone=phone)
    return text


def make_page(chance: random.Random, language: str, phone: str, number: int) -> list[str]:
    """Return the lines of a page of a fax: from some to as many as A4 takes."""
    language = language if language in _SENTENCES else "en"
    lines = [f"FAX {phone}", f"{number}", ""]
    for _ in range(chance.randrange(8, 45)):
        sentences = (chance.choice(_SENTENCES[language]).format(phone=phone) for _ in range(2))
        lines.append(" ".join(sentences)[:_LINE].rstrip())
    return lines


def make_pdf(pages: list[list[str]]) -> bytes:
    """Return a PDF of those pages of lines, A4."""
    kids = " ".join(f"{4 + 2 * place} 0 R" for place in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    for place, lines in enumerate(pages):
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 3 0 R >> >>"
            b" /Contents %d 0 R >>" % (5 + 2 * place)
        )
        shown = b"".join(b"(%s) '\n" % _escape(line) for line in lines)
        content = b"BT /F1 10 Tf 16 TL 56 800 Td\n" + shown + b"ET"
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content))
    return _assemble(objects)


def _escape(line: str) -> bytes:
    return line.encode("cp1252", "replace").replace(b"\\", rb"\\").replace(b"(", rb"\(").replace(b")", rb"\)")


def _assemble(objects: list[bytes]) -> bytes:
    """Return the file: header, objects, the table of where they begin, trailer (ISO 32000-1, 7.5)."""
    body = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")  # bytes above 127 tell those who look that it is no text
    places = []
    for number, content in enumerate(objects, 1):
        places.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    begins = len(body)
    body += b"xref\n0 %d\n0000000000 65535 f \n%s" % (len(objects) + 1, table)
    body += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, begins)
    return bytes(body)

#!/usr/bin/osascript -l JavaScript
// Print the text on a picture, as macOS's Vision reads it on this Mac: ocr.js FILE
ObjC.import("Foundation");
ObjC.import("Vision");

function run(argv) {
  const request = $.VNRecognizeTextRequest.alloc.init;
  request.setUsesLanguageCorrection(true);
  const picture = $.NSURL.fileURLWithPath(argv[0]);
  const handler = $.VNImageRequestHandler.alloc.initWithURLOptions(picture, $({}));
  if (!handler.performRequestsError($([request]), null)) throw new Error(`cannot read ${argv[0]}`);
  return (ObjC.unwrap(request.results) || [])
    .map((line) => ObjC.unwrap(line.topCandidates(1).firstObject.string))
    .join("\n");
}

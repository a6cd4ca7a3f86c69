"""Detection: boxes, anchors, YOLOv2's targets and loss, and what detections are worth.

Mathematics on tensors, which knows no network, no data set and no training:

* :mod:`~bsnn_tha.detection.boxes`: what a box is, overlap, non-maximum suppression;
* :mod:`~bsnn_tha.detection.anchors`: anchors by k-means over training boxes;
* :mod:`~bsnn_tha.detection.head`: what a network's outputs stand for, and back to boxes;
* :mod:`~bsnn_tha.detection.yolo`: assignment of boxes to anchors, and the loss;
* :mod:`~bsnn_tha.detection.precision`: COCO's average precision;
* :mod:`~bsnn_tha.detection.protocols`: which boxes count on Gen1.

The loss that a configuration names is :class:`bsnn_tha.losses.yolo.YoloLoss`.
"""
